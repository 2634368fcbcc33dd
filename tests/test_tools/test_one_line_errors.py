"""Tools print one line for an invalid input, and a traceback for a bug."""

import json
import re
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from detnas_mm.errors import DetNASError
from detnas_mm.search import Ledger

TOOLS = Path(__file__).parents[2] / 'tools'
SEARCH = dict(
    space=dict(type='MAEDetSpace', space='authors'),
    strategy=dict(type='PopulationEvolution', population=8, candidates=50),
    evaluator=dict(type='EntropyScore'),
    objectives=[dict(name='entropy')],
    costs=dict(flops=dict(type='StructureFlops', input_size=(480, 480))),
    budget=dict(generations=1),
)
STRANGER = """
from detnas_mm.registry import EVALUATORS
from detnas_mm.systems.mae_det import EntropyScore


@EVALUATORS.register_module(force=True)
class StrangersScore(EntropyScore):
    def __init__(self, refuses_in, error):
        super().__init__()
        self.refuses_in, self.error = refuses_in, dict(ValueError=ValueError, KeyError=KeyError)[error]
        self._fail('__init__')

    def _fail(self, where):
        if where == self.refuses_in:
            raise self.error(f'refused in {where}')

    def setup(self, job, model=None):
        self._fail('setup')
        super().setup(job, model)

    def score_codes(self, codes):
        self._fail('score_codes')
        return super().score_codes(codes)

    def spec(self):
        self._fail('spec')
        return super().spec()
"""


def run(monkeypatch, tool, *arguments):
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
    runpy.run_path(str(TOOLS / tool), run_name='__main__')


@pytest.fixture
def search(tmp_path, monkeypatch):
    """Runs tools/search.py on a search of a second with another evaluator."""
    (tmp_path / 'strangers_score.py').write_text(STRANGER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'strangers_score', raising=False)

    def start(**evaluator):
        section = SEARCH | dict(evaluator=evaluator or SEARCH['evaluator'])
        text = f"custom_imports = dict(imports=['strangers_score'])\nsearch = {section!r}\n"
        (tmp_path / 'config.py').write_text(text)
        run(monkeypatch, 'search.py', tmp_path / 'config.py', '--work-dir', tmp_path / 'work')

    return start


@pytest.mark.parametrize(
    ('where', 'line'),
    [
        ('__init__', r'StrangersScore: refused in __init__ \(traceback: .*detnas_mm_.*\.log\)'),
        ('setup', '(StrangersScore cannot score .*: )?refused in setup'),
    ],
)
def test_a_strangers_value_error_about_its_input_is_one_line(search, where, line):
    with pytest.raises(SystemExit) as caught:
        search(type='StrangersScore', refuses_in=where, error='ValueError')
    assert re.fullmatch(f'error: {line}', caught.value.code), caught.value.code


@pytest.mark.parametrize(
    ('where', 'error'), [('__init__', 'KeyError'), ('setup', 'KeyError'), ('spec', 'ValueError'), ('spec', 'KeyError')]
)
def test_other_errors_of_a_stranger_keep_their_traceback(search, where, error):
    with pytest.raises((ValueError, KeyError), match=f'refused in {where}') as caught:
        search(type='StrangersScore', refuses_in=where, error=error)
    assert type(caught.value).__name__ == error


@pytest.mark.parametrize(
    'bug', [lambda *_: {}['a bug'], lambda *_: np.zeros(2) @ np.zeros(3), lambda *_: int('a bug'), lambda *_: None.a]
)
def test_a_bug_of_ours_keeps_its_traceback(search, monkeypatch, bug):
    search()
    monkeypatch.setattr(Ledger, '_open', bug)
    with pytest.raises((ValueError, KeyError, AttributeError)) as caught:
        search()
    assert not isinstance(caught.value, DetNASError) and any(f.name == '<lambda>' for f in caught.traceback)


def test_a_ledger_of_another_search_is_one_line(search, tmp_path):
    search()
    with pytest.raises(SystemExit, match=r'^error: .*ledger.jsonl belongs to another search.*weights'):
        search(type='EntropyScore', weights=(0, 0, 1, 1, 8))


@pytest.mark.parametrize(
    ('tool', 'arguments', 'message'),
    [
        ('export_subnet.py', ['nowhere', 'x'], '^error: nowhere has no ledger.jsonl: give the folder of a search'),
        ('analysis_tools/ledger.py', ['nowhere'], '^error: there is no ledger nowhere'),
        ('analysis_tools/structures.py', ['broken'], 'error: broken/best.json is not valid JSON: Expecting'),
        ('analysis_tools/score_backbone.py', ['heir.py'], '^error: heir.py inherits .*there is no nosuch.py'),
        ('dataset_converters/split_imagenet.py', ['.', '--ann-file', 'binary'], 'binary is not a UTF-8 text file'),
    ],
)
def test_files_that_are_missing_or_damaged_are_one_line(monkeypatch, tmp_path, tool, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'broken').mkdir()
    (tmp_path / 'broken' / 'best.json').write_text('{')
    (tmp_path / 'heir.py').write_text("_base_ = './nosuch.py'\n")
    (tmp_path / 'binary').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(SystemExit, match=message):
        run(monkeypatch, tool, *arguments)


@pytest.mark.parametrize(
    ('tool', 'part'),
    [('train.py', 'train_dataloader'), ('train.py', 'test_dataloader'), ('search.py', ''), ('search.py', 'exported')],
)
def test_every_image_is_looked_at_if_asked(monkeypatch, tmp_path, capsys, tool, part):
    images = [dict(id=number, file_name=f'{number}.png', width=40, height=30) for number in range(5)]
    boxes = [dict(id=1, image_id=0, category_id=1, bbox=[1, 1, 9, 9], area=81, iscrowd=0)]
    content = dict(images=images, annotations=boxes, categories=[dict(id=1, name='cat')])
    (tmp_path / 'a.json').write_text(json.dumps(content))
    for number in range(5):
        cv2.imwrite(str(tmp_path / f'{number}.png'), np.full((30, 40, 3), number, dtype=np.uint8))
    dataset = dict(
        type='CocoDataset', data_root=str(tmp_path), ann_file='a.json', metainfo=dict(classes=('cat',)),
        data_prefix=dict(img=''), pipeline=[dict(type='LoadImageFromFile')],
    )  # fmt: skip
    loader = dict(batch_size=1, dataset=dict(type='RepeatDataset', times=2, dataset=dataset))
    parts = {part: loader} if part else dict(search=dict(evaluator=dict(dataloader=loader)))

    def write(name: str, parts: dict) -> None:
        lines = ["default_scope = 'mmdet'", *(f'{key} = {value!r}' for key, value in parts.items())]
        (tmp_path / name).write_text('\n'.join(lines))

    if part == 'exported':  # the test set of the config that is written out
        write('net.py', dict(test_dataloader=loader))
        parts = dict(search=dict(export=dict(config=str(tmp_path / 'net.py'))))
    write('config.py', parts)
    run(monkeypatch, tool, tmp_path / 'config.py', '--check-images')
    assert 'All 5 images can be read.' in capsys.readouterr().out
    whole = (tmp_path / '1.png').read_bytes()
    (tmp_path / '1.png').write_bytes(whole[: len(whole) // 2])
    (tmp_path / '3.png').write_bytes(b'')
    (tmp_path / '4.png').unlink()
    with pytest.raises(
        SystemExit, match='^error: 3 of 5 images cannot be read: restore the files in the list above'
    ) as caught:
        run(monkeypatch, tool, tmp_path / 'config.py', '--check-images')
    assert isinstance(caught.value.code, str), 'the exit status is 1'
    listed = capsys.readouterr().out
    assert '1.png is truncated' in listed and '3.png is empty' in listed and '4.png is missing' in listed
    assert not list(tmp_path.glob('work*'))


def test_a_test_set_that_is_not_there_is_left_out(monkeypatch, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / '0.png'), np.zeros((30, 40, 3), dtype=np.uint8))
    content = dict(images=[dict(id=0, file_name='0.png', width=40, height=30)], annotations=[], categories=[])
    (tmp_path / 'a.json').write_text(json.dumps(content))
    loader = dict(dataset=dict(type='CocoDataset', data_root=str(tmp_path), ann_file='a.json', test_mode=True))
    loader['dataset'] |= dict(
        data_prefix=dict(img=''), metainfo=dict(classes=()), pipeline=[dict(type='LoadImageFromFile')]
    )
    away = dict(dataset=dict(loader['dataset'], ann_file='nowhere.json'))
    parts = dict(search=dict(evaluator=dict(dataloader=loader), export={}), test_dataloader=away)
    lines = ["default_scope = 'mmdet'", *(f'{key} = {value!r}' for key, value in parts.items())]
    (tmp_path / 'config.py').write_text('\n'.join(lines))
    run(monkeypatch, 'search.py', tmp_path / 'config.py', '--check-images')
    shown = capsys.readouterr().out
    assert 'All 1 images can be read.' in shown
    assert f'test_dataloader.dataset of {tmp_path}/config.py: there is no file {tmp_path}/nowhere.json' in shown
