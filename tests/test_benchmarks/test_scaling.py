import json
from dataclasses import replace

import numpy as np
import pytest


@pytest.fixture(scope='module')
def scaling(load):
    return load('scaling')


def seconds(scaling, work, workers):
    return scaling.generation(np.random.default_rng(0), work, workers)[0]


def test_the_simulation_in_cases_that_can_be_counted(scaling):
    even = scaling.Work(
        candidates=24, chunk=12, calibration_batches=4, val_batches=8,
        seconds=dict(calibration=[1], evaluation=[2], metric=[3]), gather_seconds=0, cutting=(0, 0), stragglers=0,
        failures=0, restart_seconds=0,
    )  # fmt: skip
    assert seconds(scaling, even, 1) == 24 * (4 * 1 + 8 * 2 + 3)
    assert seconds(scaling, even, 4) == seconds(scaling, even, 1) / 4
    # 8 workers take half a batch each to calibrate, since 12 candidates make two parts; 4 compute two metrics.
    assert seconds(scaling, even, 8) == 2 * (12 * (4 * 1 + 8 * 2) / 8 + 2 * 3)
    # 16 workers: half of them have nothing to calibrate; all evaluate half a batch; 12 compute a metric.
    assert seconds(scaling, even, 16) == 2 * (6 * 1 + 6 * 2 + 3)
    cut = replace(even, cutting=(0.5, 0.25))
    assert seconds(scaling, cut, 16) == 2 * (6 * 1 * 1.5 + 6 * 2 * 1.25 + 3)
    assert seconds(scaling, cut, 1) == seconds(scaling, even, 1)
    assert seconds(scaling, replace(even, gather_seconds=5), 4) == seconds(scaling, even, 4) + 2 * 2 * 5
    assert seconds(scaling, replace(even, stragglers=1), 1) == 24 * (3 * (4 * 1 + 8 * 2) + 3)
    assert seconds(scaling, replace(even, failures=60, restart_seconds=9), 4) > seconds(scaling, even, 4) + 9


def test_times_are_those_that_were_measured(scaling, tmp_path):
    path, images = tmp_path / 'measured.json', dict(calibration=20, evaluation=40)
    one = dict(batches=dict(calibration=[1, 3], evaluation=[2], metric=[1]), images=images, batch_sizes=images)
    path.write_text(json.dumps(dict(outcomes=[{}, one])))
    found, sizes = scaling.measured(path, 400)
    assert found == dict(calibration=[1, 3], evaluation=[2], metric=[10]) and sizes == images
    path.write_text(json.dumps(one))
    assert scaling.measured(path, 400) == (found, sizes)
    uneven = scaling.Work(
        candidates=1, chunk=1, calibration_batches=1000, val_batches=0, seconds=found, gather_seconds=0,
        cutting=(0, 0), stragglers=0, failures=0, restart_seconds=0,
    )  # fmt: skip
    assert 1900 < seconds(scaling, uneven, 1) < 2100
    path.write_text('{}')
    with pytest.raises(SystemExit, match=r'no seconds of batches.*one_shot_candidate'):
        scaling.measured(path, 400)
