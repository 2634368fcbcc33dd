"""The benchmark at COCO's sizes, on images that a CPU can do."""

import json

import pytest

from tests.test_engine.test_search_jobs import ROOT


@pytest.fixture(scope='module')
def coco_sizes(load):
    return load('coco_sizes')


def test_the_papers_search_from_what_was_measured(coco_sizes):
    found = dict(
        batches=dict(calibration=[1.0, 3.0], evaluation=[4.0], metric=[0.5, 0.7]),
        batch_sizes=dict(calibration=20, evaluation=8),
        images=dict(calibration=40, evaluation=80),
        loading=dict(calibration=2.0, evaluation=8.0),
    )
    seconds = coco_sizes.papers_search(found)
    assert seconds == pytest.approx(dict(calibration=50, evaluation=2500, metric=37.5, loading=(25 + 500) / 50))
    row = coco_sizes.row_of(found)
    assert row['images a second'] == pytest.approx(5500 / 2598) and row['evaluation'] == '96%'
    assert row['days of 1,000 candidates'] == pytest.approx(2598000 / 86400)


@pytest.mark.slow
def test_it_runs(coco_sizes, tmp_path, capsys):
    config = str(ROOT / 'configs' / 'detnas' / 'detnas-small_search_retinanet_coco.py')
    out = tmp_path / 'out.json'
    few = ['--images', '2', '4', '--size', '64', '96', '--batch-size', '2', '--candidates', '2', '--rounds', '1']
    coco_sizes.main([config, *few, '--precision', 'fp32', 'bf16', '--out', str(out)])
    found = json.loads(out.read_text())
    assert [row['precision'] for row in found['rows']] == ['fp32', 'bf16']
    for outcome in found['outcomes']:
        assert {name: len(seconds) for name, seconds in outcome['batches'].items()} == dict(
            calibration=1, evaluation=2, metric=2
        )
        assert {'recalibration: backbone', 'evaluation: head', 'evaluation: metric'} <= outcome['parts'].keys()
    assert 'days of 1,000 candidates' in capsys.readouterr().out
