"""What the tools print: one line of what was refused, the traceback of what is a bug."""

import runpy
import sys
from pathlib import Path

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


@pytest.mark.parametrize('where', ['__init__', 'setup'])
def test_a_strangers_value_error_about_its_input_is_one_line(search, where):
    with pytest.raises(SystemExit, match=f'^error: (StrangersScore cannot score .*: )?refused in {where}$'):
        search(type='StrangersScore', refuses_in=where, error='ValueError')


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
        ('export_subnet.py', ['nowhere', 'x'], '^error: nowhere has no ledger.jsonl: it is no folder of a search'),
        ('analysis_tools/ledger.py', ['nowhere'], '^error: there is no ledger nowhere'),
        ('analysis_tools/structures.py', ['broken'], 'error: broken/best.json is no JSON file: Expecting'),
        ('analysis_tools/score_backbone.py', ['heir.py'], '^error: heir.py cannot be read as a config: .*nosuch.py'),
        ('dataset_converters/split_imagenet.py', ['.', '--ann-file', 'binary'], 'binary is no text file'),
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
