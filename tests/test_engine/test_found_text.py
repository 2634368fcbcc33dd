"""Text and picture of measured nets."""

import math
from types import SimpleNamespace

import matplotlib.image
import pytest

from detnas_mm.engine import found as found_module
from detnas_mm.engine.found import mark_beaten
from detnas_mm.latency import LatencyTable
from detnas_mm.latency.text import found_text
from detnas_mm.search import Objective
from detnas_mm.systems.detnas import DetNASSpace
from detnas_mm.visualization import plot_front
from tests import jobs
from tests.test_search.test_ledger import record

MAP, LATENCY = Objective('coco/bbox_mAP'), Objective('latency', 'minimize')


def net(name, score, predicted, measured):
    return dict(
        id=name, arch=f'0|1|23|{name}', fitness={'coco/bbox_mAP': score}, tested={'coco/bbox_mAP': round(score, 3)},
        costs=dict(macs=5_000_000, latency=predicted), as_measured=dict(macs=5_000_000, latency=measured),
        predicted_ms=predicted, measured_ms=measured, iqr_ms=0.25, breaks={}, config='c.py', checkpoint='c.pth',
    )  # fmt: skip


@pytest.fixture
def found(tmp_path):
    nets = [net('0', 0.35, 4.0, 4.2), net('1', 0.34, 3.5, 4.3), net('2', 0.33, 3.0, 3.1)]
    table = LatencyTable(DetNASSpace(), tmp_path / 'none.json')
    mark_beaten(nets, jobs.make_job(DetNASSpace(), [MAP, LATENCY], dict(latency=table)))
    predictions = dict(
        mean_absolute_error_percent=7.5, bias_percent=-7.5, factor=1.05, error_after_factor_percent=6.25, kendall=0.5,
        iqr_percent=1.0,
    )  # fmt: skip
    return dict(
        device=dict(kind='cpu', name='Analytical Engine', threads=1), part='detector', input_size=[96, 64], nets=nets,
        images='search-val', predictions=predictions, objectives=[vars(MAP), vars(LATENCY)], latency='latency',
        references_ms=dict(tables={}, now={}),
    )  # fmt: skip


def test_nets_that_are_beaten_by_measured_latency(found):
    assert [one['beaten'] for one in found['nets']] == [False, True, False]
    mark_beaten(found['nets'], jobs.make_job(DetNASSpace(), [MAP]))
    assert not any(one['beaten'] for one in found['nets']), 'what was measured is no objective'


def test_found_nets_as_text(found):
    lines = found_text(found).splitlines()
    assert lines[0] == (
        'coco/bbox_mAP; latency in ms of the detector, one image of 96x64 (search-val), Analytical Engine, 1 thread'
    )
    assert lines[1].split() == ['net', 'fitness', 'tested', 'predicted', 'measured', 'spread', 'macs', 'architecture']
    assert lines[2].split() == ['0', '0.3500', '0.350', '4.000', '4.200', '0.250', '5,000,000', '0|1|23|0']
    assert [line.strip() for line in lines].index('dominated (measured)') == 4
    ends = [line.index('0|1|23|') for line in (lines[2], lines[3], lines[5])]
    assert set(ends) == {lines[1].index('architecture')}
    assert (
        '7.5 % (bias -7.5 %), 6.2 % after scaling by 1.05; rank correlation: Kendall 0.50' in lines[6]
        and len(lines) == 7
    )
    found['predictions']['factor'] = 1.7
    assert 'The machine was busy' in found_text(found)
    found['nets'][1]['test_set'] = {'coco/bbox_mAP': 0.3}
    assert found_text(found).splitlines()[2].split()[1:4] == ['0.3500', '0.350', '–']
    assert found_text(found).splitlines()[3].split()[1:4] == ['0.3400', '0.340', '0.300']


def test_nets_of_unlike_input_sizes_as_text(found, tmp_path):
    """Searched by their latency before training: faster post-processing is not reported as a change of the machine."""
    for net, size in zip(found['nets'], ([96, 64], [64, 64], [128, 96]), strict=True):
        net['input_size'] = size
    found |= dict(input_size=None, untrained=True)
    found['predictions']['factor'] = 0.6
    lines = found_text(found).splitlines()
    assert ', one image of the input size of each net (search-val), ' in lines[0]
    assert lines[1].split()[-3:] == ['input', 'macs', 'architecture'] and lines[2].split()[-3] == '96x64'
    assert lines[-1].startswith('Predicted latencies are those of untrained nets')
    assert matplotlib.image.imread(plot_front(found, [], tmp_path / 'front.png')).std() > 0.02


def test_a_net_without_detections_has_no_score(found):
    found['nets'][0]['tested'] = {}
    assert found_text(found).splitlines()[2].split()[2] == '–'


def test_values_that_are_not_finite_are_no_scores(tmp_path, monkeypatch):
    """Such as the AP of a class without boxes in search-val; JSON has no NaN."""
    scores = {'coco/bbox_mAP': 0.3, 'coco/7_precision': math.nan}
    monkeypatch.setattr(found_module.NamedRunner, 'from_cfg', lambda cfg: SimpleNamespace(test=lambda: scores))
    config = tmp_path / 'net.py'
    config.write_text("model = dict(type='RetinaNet')")
    assert found_module.tested(config, tmp_path / 'net.pth', tmp_path) == {'coco/bbox_mAP': 0.3}


def test_the_plot(found, tmp_path):
    records = [
        record(i, str(i), metrics={'coco/bbox_mAP': 0.3 + i / 100}, costs={'latency': 3.0 + i / 4}) for i in range(6)
    ]
    records.append(record(6, 'failed', metrics={}, status='failed'))
    path = plot_front(found, records, tmp_path / 'plots' / 'front.png')
    picture = matplotlib.image.imread(path)
    assert picture.shape[:2] == (780, 1170)
    assert picture.std() > 0.05
    found['objectives'].append(dict(name='macs', direction='minimize'))
    other = matplotlib.image.imread(plot_front(found, records, tmp_path / 'three.png'))
    assert (other != picture).any()  # no line joins a front of three objectives
    without = matplotlib.image.imread(plot_front(found | dict(latency=None, predictions=None), [], tmp_path / 'no.png'))
    assert (without != other).any() and without.std() > 0.02
