"""Evaluation of the measurements of the benchmark at COCO's sizes; test_every_script.py runs the benchmark."""

import pytest


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
