"""The tool that shows fronts of several searches: what it prints, draws and refuses."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from matplotlib.image import imread

from detnas_mm.search import Ledger, Objective, Record
from detnas_mm.search.fronts import Joint, Stage
from detnas_mm.visualization import Mark, fronts, plot_fronts

TOOL = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'fronts.py'
OBJECTIVES = [Objective('mAP'), Objective('ms', 'minimize')]
#: Gain and milliseconds of two searches; the last net precedes the one before it, and is no faster than the first.
FIRST = [(0.30, 20.0), (0.20, 25.0), (0.45, 70.0)]
SECOND = [
    (0.50, 20.0, 'seed2:basic_64_1-21-21-12_128'),
    (0.40, 30.0, 'seed1:basic_64_11-21-21-12_128'),
    (0.35, 25.0, 'seed1:basic_64_1-21-21-12_128'),
]


def write(folder, kind, rows):
    header = dict(
        space=dict(type=kind, recipe={}), evaluator=dict(type='E'), objectives=[vars(one) for one in OBJECTIVES]
    )
    with Ledger(folder / 'ledger.jsonl', header) as ledger:
        for index, (gain, ms, *arch) in enumerate(rows):
            text = arch[0] if arch else f'512x512/resnet{index}'
            ledger.append(
                Record(index, index, f'{index:012x}', text, 'random', (), 'ok', None, dict(mAP=gain), dict(ms=ms))
            )
    return folder


@pytest.fixture
def searches(tmp_path):
    return [
        write(tmp_path / 'structural', 'StructuralSpace', FIRST),
        write(tmp_path / 'modular', 'ModularSpace', SECOND),
    ]


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the tool; returns the lines that it prints, or what it ends with."""

    def run(*args):
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, args)])
        try:
            runpy.run_path(str(TOOL), run_name='__main__')
        except SystemExit as error:
            return str(error)
        return capsys.readouterr().out.splitlines()

    return run


def test_it_shows_both_fronts_and_the_joint_one(searches, run):
    lines = run(*searches, '--reference', 0, 100)
    heads = [line for line in lines if not line.startswith('  ')]
    assert heads == [
        f'structural: 3 rows, 3 successful, 2 on the front; hypervolume {0.3 * 80 + 0.15 * 30:.6g}',
        'modular: 3 rows, 3 successful, 1 on the front; hypervolume 40',
        'joint: 6 rows trained like those of modular, 1 on the front; hypervolume 40',
        'reference point of hypervolumes: mAP 0, ms 100',
    ]
    assert '  modular  000000000000  seed2:basic_64_1-21-21-12_128  mAP 0.5  ms 20' in lines


def test_it_shows_what_pruning_spares_and_has_spared(searches, run):
    text = '\n'.join(run(*searches, '--pruning'))
    assert 'structural: no partial order in this space' in text
    assert 'modular: replay of pruning (spread 0): 1 of 3 candidates spared, 0 of 1 net on the front lost' in text
    assert '0 of 3 candidates spared' in '\n'.join(run(searches[1], '--pruning', '--spread', '6'))
    (searches[1] / 'pruning.json').write_text(json.dumps(dict(spared=[{}], spreads={f'{2:012x}': 6.0})))
    text = '\n'.join(run(searches[1], '--pruning'))
    assert 'modular: 1 candidate spared in the search, that is dropped before training' in text
    assert 'replay of pruning (spreads from pruning.json): 0 of 3 candidates spared' in text


def test_it_draws_them_with_detectors_made_by_hand(searches, run, tmp_path):
    marks = tmp_path / 'marks.json'
    marks.write_text(json.dumps([dict(name='RetinaNet', mAP=0.3, ms=40)]))
    lines = run(
        *searches, '--draw', tmp_path / 'new' / 'fronts.png', '--marks', marks, '--unit', 'ms', '--names', 'a', 'b'
    )
    assert lines[-1] == str(tmp_path / 'new' / 'fronts.png') and lines[0].startswith('a: 3 rows')
    assert imread(tmp_path / 'new' / 'fronts.png').shape[1] == 1200


def test_what_it_cannot_use_is_one_line(searches, run, tmp_path):
    assert 'There is no ledger' in run(tmp_path / 'nowhere')
    assert '--names: 1 names for 2 searches' in run(*searches, '--names', 'a')
    assert '--draw must be a .png file' in run(*searches, '--draw', 'fronts.pdf')
    marks = tmp_path / 'marks.json'
    assert 'cannot be read' in run(*searches, '--marks', marks)
    for text in ('{', '[{"name": "a"}]', '[1]', '[{"name": "a", "mAP": "much", "ms": 3}]'):
        marks.write_text(text)
        assert 'must be a list of {"name": "…", "mAP": …, "ms": …}' in run(*searches, '--marks', marks)


# -- the picture ----------------------------------------------------------------------------------------------------


def test_the_picture_has_every_net_and_names_those_on_fronts(searches, tmp_path, monkeypatch):
    figures = []
    figure = fronts.Figure

    def kept(*args, **kwargs):
        figures.append(figure(*args, **kwargs))
        return figures[-1]

    monkeypatch.setattr(fronts, 'Figure', kept)
    first, second = map(Stage.read, searches)
    joint = Joint([('modular', one) for one in second.records], [('modular', second.records[0])], {})
    plot_fronts([first, second], OBJECTIVES, tmp_path / 'a.png', joint, [Mark('by hand', (0.3, 40.0))], ('', 'ms'))
    axes, below = figures[0].axes
    faint = [tuple(map(tuple, one.get_offsets().tolist())) for one in axes.collections]
    assert faint[0] == ((25.0, 0.2),) and set(faint[1]) == {(30.0, 0.4), (25.0, 0.35)}
    assert axes.collections[0].get_alpha() < 0.5 and axes.get_xlabel() == 'ms, ms'
    lines = [line.get_xydata().tolist() for line in axes.lines]
    assert [[70.0, 0.45], [20.0, 0.3]] in lines and lines.count([[20.0, 0.5]]) == 2  # its own front, and the joint one
    texts = [text.get_text() for text in axes.texts]
    assert texts == ['1', '2', '3', 'by hand']
    named = [text.get_text() for text in below.texts]
    assert named.index('seed2:basic_64_1-21-21-12_128') < named.index('512x512/resnet2')
    colours = {text.get_text(): text.get_color() for text in below.texts}
    assert colours['seed2:basic_64_1-21-21-12_128'] == 'black' != colours['512x512/resnet2']


def test_numbers_that_would_stand_on_one_another_stand_together():
    places = [(100.0, 1.0), (10.0, 0.5), (10.1, 0.501), (0.0, 0.0)]
    assert fronts._numbers(places) == [('1', places[0]), ('2, 3', places[1]), ('4', places[3])]
    assert fronts._numbers([(5.0, 1.0)]) == [('1', (5.0, 1.0))]


def test_two_searches_of_one_name_are_refused(searches, run):
    """Folders of two seeds have the same name, so their rows could not be distinguished."""
    assert "two searches have the name 'modular': give each a different name" in run(searches[1], searches[1])
    assert run(searches[1], searches[1], '--names', 'one', 'two')[0].startswith('one: 3 rows')


def test_a_rival_is_not_on_the_joint_front(searches, run, tmp_path):
    rival = write(tmp_path / 'random', 'StructuralSpace', [(0.9, 1.0), (0.1, 90.0)])
    lines = run(rival, *searches, '--reference', 0, 100, '--apart', 'random')
    assert 'random: 2 rows, 2 successful, 1 on the front; hypervolume 89.1' in lines
    assert 'joint: 6 rows trained like those of modular, 1 on the front; hypervolume 40' in lines
    assert not any(line.startswith('joint') for line in run(*searches, '--apart', 'modular'))
    assert "no search has the name 'other'. Names: structural, modular." in run(*searches, '--apart', 'other')
