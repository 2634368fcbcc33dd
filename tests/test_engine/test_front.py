"""The front of nets for a device: its parts, and the whole command."""

import json
import math
import subprocess
import sys
from types import SimpleNamespace

import matplotlib.image
import pytest
import torch
from detnas_mm.engine.front import check_rest, checked_cost, front_text, mark_beaten, search_front

from detnas_mm.engine import front as front_module
from detnas_mm.engine.latency import Subject, latency_cost, load_model
from detnas_mm.latency import LatencyTable
from detnas_mm.latency.timing import Pace
from detnas_mm.search import Objective
from detnas_mm.visualization import plot_front
from tests import digits, latency
from tests.test_engine.test_search_jobs import OPTIONS, ROOT, rows
from tests.test_search.test_ledger import record

MAP, LATENCY = Objective('coco/bbox_mAP'), Objective('latency', 'minimize')
NAME = 'detnas-digits_search-latency_retinanet'


def net(name, score, foretold, measured):
    return dict(
        id=name, arch=f'0|1|23|{name}', fitness={'coco/bbox_mAP': score}, tested={'coco/bbox_mAP': round(score, 3)},
        costs=dict(macs=5_000_000, latency=foretold), measured_ms=measured, iqr_ms=0.25, config='c.py',
        checkpoint='c.pth',
    )  # fmt: skip


@pytest.fixture
def front():
    nets = [net('0', 0.35, 4.0, 4.2), net('1', 0.34, 3.5, 4.3), net('2', 0.33, 3.0, 3.1)]
    mark_beaten(nets, [MAP, LATENCY], 'latency')
    predictions = dict(
        mean_absolute_error_percent=7.5, bias_percent=-7.5, factor=1.05, error_after_factor_percent=6.25, kendall=0.5
    )
    return dict(
        device=dict(kind='cpu', name='Analytical Engine', threads=1), part='detector', input_size=[96, 64], nets=nets,
        predictions=predictions, objectives=[vars(MAP), vars(LATENCY)],
    )  # fmt: skip


def test_nets_that_are_beaten_by_measured_latency(front):
    assert [one['beaten'] for one in front['nets']] == [False, True, False]
    mark_beaten(front['nets'], [MAP], 'latency')
    assert [one['beaten'] for one in front['nets']] == [False, True, True]


def test_the_front_as_text(front):
    lines = front_text(front, MAP, 'latency').splitlines()
    assert lines[0] == 'coco/bbox_mAP; latency in ms of the detector, one image of 96x64, Analytical Engine, 1 thread'
    assert lines[1].split() == ['net', 'architecture', 'fitness', 'tested', 'foretold', 'measured', 'spread', 'macs']
    assert lines[2].split() == ['0', '0|1|23|0', '0.3500', '0.350', '4.000', '4.200', '0.250', '5,000,000']
    assert lines[3].endswith('beaten as measured') and not lines[4].endswith('beaten as measured')
    assert len({len(line) for line in (lines[1], lines[2], lines[4])}) == 1
    assert '7.5 %, bias -7.5 %, Kendall 0.50; 6.2 % once a common factor of 1.05' in lines[5] and len(lines) == 6
    front['predictions']['factor'] = 1.7
    assert 'This machine was busy' in front_text(front, MAP, 'latency')


def test_a_net_without_detections_has_no_score(front):
    front['nets'][0]['tested'] = {}
    assert front_text(front, MAP, 'latency').splitlines()[2].split()[3] == '–'


def test_values_that_are_not_finite_are_no_scores(tmp_path, monkeypatch):
    """As the AP of a class that search-val has no box of; JSON has no room for it."""
    found = {'coco/bbox_mAP': 0.3, 'coco/7_precision': math.nan}
    monkeypatch.setattr(front_module.Runner, 'from_cfg', lambda cfg: SimpleNamespace(test=lambda: found))
    config = tmp_path / 'net.py'
    config.write_text("model = dict(type='RetinaNet')")
    assert front_module.tested(config, tmp_path / 'net.pth', tmp_path) == {'coco/bbox_mAP': 0.3}


def test_the_plot(front, tmp_path):
    records = [
        record(i, str(i), metrics={'coco/bbox_mAP': 0.3 + i / 100}, costs={'latency': 3.0 + i / 4}) for i in range(6)
    ]
    records.append(record(6, 'failed', metrics={}, status='failed'))
    path = plot_front(front, records, MAP, 'latency', tmp_path / 'plots' / 'front.png')
    picture = matplotlib.image.imread(path)
    assert picture.shape[:2] == (780, 1170)
    assert picture.std() > 0.05
    front['objectives'].append(dict(name='macs', direction='minimize'))
    other = matplotlib.image.imread(plot_front(front, records, MAP, 'latency', tmp_path / 'three.png'))
    assert (other != picture).any()  # no line joins a front of three objectives


def config(tmp_path, **changes):
    return latency.provide(digits.config(NAME, tmp_path, **changes), tmp_path)


@pytest.mark.parametrize(
    ('changes', 'match'),
    [
        (dict(search__costs__latency=dict(_delete_=True, type='ParamsTable')), 'take a config with search-latency'),
        (dict(search__costs__latency__file=''), "needs costs=dict.latency=dict.type='LatencyTable'"),
        (dict(search__objectives=[dict(name='coco/bbox_mAP')]), "hold dict.name='latency'"),
        (dict(search__objectives=[dict(name='latency', direction='minimize')]), 'must begin with a metric'),
        (dict(search__objectives=[dict(name='macs'), vars(LATENCY)]), 'must begin with a metric'),
        (dict(search__objectives=[dict(name='coco/bbox_mAP'), dict(name='latency')]), "direction='minimize'"),
    ],
)
def test_configs_that_do_not_fit_are_refused(tmp_path, changes, match):
    cfg = digits.config(NAME, tmp_path, **changes)
    with pytest.raises(ValueError, match=match):
        checked_cost(cfg)
    assert latency_cost(digits.config('detnas-digits_search_retinanet', tmp_path)) == (None, {})


@pytest.mark.parametrize(
    ('changes', 'match'),
    [
        (dict(search__strategy=dict(type='NoStrategy')), "'NoStrategy' is no search strategy"),
        (dict(search__constraints=[dict(cost='energy', high=1)]), "'energy', which nothing produces"),
        (dict(search__constraints=[dict(high=1)]), 'cost among them; got .*high'),
        (dict(search__constraints='macs'), 'constraints must be a list'),
        (dict(search__objectives=[dict(named='latency')]), 'name among them; got .*named'),
        (dict(search__strategy=dict(type='EvolutionStrategy')), 'or take ParetoStrategy'),
        (dict(search__constraints=[dict(cost='macs', low=5_600_001, high=5_600_002)]), 'None of .* candidates'),
    ],
)
def test_the_rest_is_checked_before_a_table_is_measured(tmp_path, changes, match):
    cfg = digits.config(NAME, tmp_path, **changes)
    with pytest.raises(ValueError, match=match):
        search_front(cfg, 'none.pth', 'cpu', Pace())
    check_rest(digits.config(NAME, tmp_path, search__constraints=[dict(cost='latency', high=1)]))


@pytest.mark.parametrize(
    ('name', 'part', 'device', 'real', 'match'),
    [
        (NAME, 'head', 'cpu', False, 'part must be one of'),
        (NAME, 'backbone', 'tpu', False, "'cpu' or 'cuda'; got 'tpu'"),
        ('detnas-digits_search_cls', 'detector', 'cpu', False, 'wants a config of mmdet'),
        ('detnas-digits_supernet_retinanet', 'detector', 'cpu', True, 'give a config with a search section'),
    ],
)
def test_subjects_that_cannot_be_measured(tmp_path, name, part, device, real, match):
    with pytest.raises(ValueError, match=match):
        Subject(digits.config(name, tmp_path), part, (96, 96), device, real)


def test_a_checkpoint_of_another_model_is_not_measured(tmp_path):
    """As that of step 1; what is there beside the model's own weights does no harm, nor does a wrapper's prefix."""
    cfg, file = digits.config(NAME, tmp_path), tmp_path / 'supernet.pth'
    weights = load_model(cfg, None, 'cpu').state_dict()
    torch.save({key: value for key, value in weights.items() if key.startswith('backbone.')}, file)
    with pytest.raises(ValueError, match='supernet.pth lacks .* tensors of this model, such as bbox_head'):
        load_model(cfg, str(file), 'cpu')
    torch.save({f'module.{key}': value + 1 for key, value in weights.items()} | {'other': torch.zeros(1)}, file)
    found = load_model(cfg, str(file), 'cpu').state_dict()
    assert all(torch.equal(found[key], value + 1) for key, value in weights.items())


def test_a_device_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ValueError, match='no CUDA device .* measure with --device cpu'):
        Subject(digits.config(NAME, tmp_path), 'backbone', (96, 96), 'cuda', False)


def run(script, *arguments):
    command = [sys.executable, '-W', 'ignore', str(ROOT / 'tools' / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_measuring_a_backbone(tmp_path):
    """Without a checkpoint and without data; the table is one that a search takes."""
    file = tmp_path / 'table.json'
    arguments = ['--part', 'backbone', '--out', file, '--device', 'cpu', '--threads', 1, '--rounds', 2, '--nets', 3]
    path = digits.CONFIGS / f'{NAME}.py'
    done = run('analysis_tools/measure_latency.py', path, *arguments, '--input-size', 32, 64)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'backbone (DetNASSupernet), one image of 32x64 (noise)' in done.stdout
    assert 'sums against 3 whole nets' in done.stdout and 'Kendall' in done.stdout
    found = json.loads(file.read_text())
    table = LatencyTable(found['space'], file, 'backbone', (32, 64))
    assert found['device']['threads'] == 1 and found['pace']['rounds'] == 2 and len(found['check']['rows']) == 3
    for row in found['check']['rows']:
        assert row['predicted_ms'] == pytest.approx(table.total(table.space.parse(row['arch'])), abs=1e-5)
    refused = run('analysis_tools/measure_latency.py', digits.CONFIGS / 'detnas-digits_supernet_cls.py')
    assert refused.returncode == 1 and 'give --input-size H W' in refused.stderr


@pytest.mark.slow
def test_the_whole_command(retinanet_supernet, tmp_path):
    """Measure, search, export, measure again, test, draw; started again it searches and measures no table."""
    table, work_dir = tmp_path / 'table.json', tmp_path / 'front'
    arguments = [
        digits.CONFIGS / f'{NAME}.py', retinanet_supernet, '--work-dir', work_dir, '--device', 'cpu', '--threads', 1,
        '--rounds', 2, '--cfg-options', f'search.costs.latency.file={table}', *OPTIONS,
    ]  # fmt: skip
    done = run('front.py', *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((work_dir / 'front.json').read_text())
    best = json.loads((work_dir / 'best.json').read_text())
    assert [one['id'] for one in found['nets']] == [one['id'] for one in best] and len(best) >= 1
    measured = json.loads(table.read_text())
    assert (measured['part'], measured['images'], measured['input_size']) == ('detector', 'search-val', [96, 96])
    costs = LatencyTable(measured['space'], table)
    for one in found['nets']:
        assert (work_dir / one['config']).is_file() and (work_dir / one['checkpoint']).is_file()
        # what mmengine's own test gives is the fitness, to the three decimals that mmdet's metric has
        assert one['tested']['coco/bbox_mAP'] == pytest.approx(one['fitness']['coco/bbox_mAP'], abs=5.01e-4)
        assert one['costs']['latency'] == pytest.approx(costs.total(costs.space.parse(one['arch'])))
        assert one['measured_ms'] > 0 and one['id'] in done.stdout
    assert matplotlib.image.imread(work_dir / 'front.png').std() > 0.02
    before = rows(work_dir), table.read_bytes()
    again = run('front.py', *arguments)
    assert again.returncode == 0, again.stderr[-3000:]
    assert (rows(work_dir), table.read_bytes()) == before
    other = run('front.py', *arguments[: -len(OPTIONS)], *OPTIONS, 'search.costs.latency.input_size=(96,128)')
    assert other.returncode == 1 and 'this search has (96, 128)' in other.stderr
