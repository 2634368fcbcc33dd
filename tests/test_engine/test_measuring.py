"""A search with its measuring: what is refused before it, its words and pictures, and the whole command."""

import json
import math
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import matplotlib.image
import pytest
import torch

from detnas_mm.cli import typed
from detnas_mm.engine import found as found_module
from detnas_mm.engine.found import mark_beaten
from detnas_mm.engine.latency import measure_latency
from detnas_mm.engine.measure import search_and_measure
from detnas_mm.latency import LatencyTable
from detnas_mm.latency.inputs import Inputs, load_model
from detnas_mm.latency.text import found_text
from detnas_mm.latency.timing import Pace
from detnas_mm.registry import SPACES, build_from
from detnas_mm.search import Objective
from detnas_mm.systems.detnas import DetNASSpace
from detnas_mm.visualization import plot_front
from tests import digits, jobs, latency
from tests.test_engine.test_search_jobs import OPTIONS, ROOT, rows
from tests.test_engine.test_zero_shot_search import by_latency
from tests.test_search.test_ledger import record

MAP, LATENCY = Objective('coco/bbox_mAP'), Objective('latency', 'minimize')
NAME = 'detnas-digits_search-latency_retinanet'


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


def measure(cfg, checkpoint='none.pth', **how):
    return search_and_measure(cfg, checkpoint, 'cpu', Pace(), **how)


@pytest.fixture
def present(tmp_path):
    """A checkpoint that can be read."""
    torch.save(dict(state_dict=dict(weight=torch.ones(1))), tmp_path / 'a.pth')
    return str(tmp_path / 'a.pth')


@pytest.mark.parametrize(
    ('changes', 'match'),
    [
        (dict(search__strategy=dict(type='NoStrategy')), "Unknown search strategy 'NoStrategy'"),
        (dict(search__constraints=[dict(cost='energy', high=1)]), "'energy', which the search does not have"),
        (dict(search__constraints=[dict(high=1)]), 'and with cost; got .*high'),
        (dict(search__constraints='macs'), 'constraints must be a list'),
        (dict(search__objectives=[dict(named='latency')]), 'and with name; got .*named'),
        (dict(search__strategy=dict(type='EvolutionStrategy')), 'or use ParetoStrategy'),
        (dict(search__constraints=[dict(cost='macs', low=5_600_001, high=5_600_002)]), 'None of .* candidates'),
        (dict(search__costs__latency__input_size=None), 'has no input_size to measure it at'),
    ],
)
def test_the_rest_is_checked_before_a_table_is_measured(digits_folder, tmp_path, present, changes, match, monkeypatch):
    monkeypatch.setattr('detnas_mm.engine.measure.measure_latency', None)
    file = str(tmp_path / 'latency.json')
    cfg = digits.written(NAME, tmp_path, search__costs__latency__file=file, **changes)
    with pytest.raises((ValueError, SystemExit), match=match):
        measure(cfg, present)


def test_constraints_on_the_table_are_checked_when_it_is_there(digits_folder, tmp_path, present, monkeypatch):
    """Before, they stop nothing: the table is measured, of the part and size that the cost names."""
    asked = {}

    def on_paper(cfg, checkpoint, file, part, size, device, pace, **how):
        asked.update(checkpoint=checkpoint, part=part, size=size, device=device)
        latency.write(tmp_path / 'latency.json', how['job'].space, part, size)

    monkeypatch.setattr('detnas_mm.engine.measure.measure_latency', on_paper)
    changes = dict(search__costs__latency__file=str(tmp_path / 'latency.json'))
    cfg = digits.written(NAME, tmp_path, **changes, search__constraints=[dict(cost='latency', high=1)])
    with pytest.raises(SystemExit, match='No architecture meets latency ≤ 1 '):
        measure(cfg, present)
    assert asked == dict(checkpoint=present, part='detector', size=(96, 96), device='cpu')


@pytest.mark.parametrize(
    ('device', 'threads', 'refused'),
    [
        (
            dict(name='Analytical Engine', threads=1),
            None,
            'Analytical Engine, 1 thread, but this command uses .*latency.file=',
        ),
        (dict(threads=99), 99, 'but this command uses .*latency.file='),
        (dict(threads=99), None, None),
    ],
)
def test_a_table_of_another_device_is_refused(digits_folder, tmp_path, present, device, threads, refused, monkeypatch):
    """Of another number of threads only where one was asked for: nets are measured with that of the table."""
    monkeypatch.setattr('detnas_mm.engine.measure.search', lambda cfg, *args, **how: args[3](job))
    cfg = digits.written(NAME, tmp_path)
    space = build_from(SPACES, cfg.search.space)
    found = latency.content(space)
    found['device'] |= device
    cfg.search.costs.latency.file = latency.write(tmp_path / 'latency.json', space, device=found['device'])
    job = jobs.SearchJob.from_config(cfg)
    job.cfg.load_from = present
    if refused is None:
        monkeypatch.setattr('detnas_mm.engine.measure.measure_found', lambda *args: 'measured')
        assert measure(cfg, present, threads=threads) == 'measured'
    else:
        with pytest.raises(ValueError, match=refused), pytest.warns() if 'name' in device else nullcontext():
            measure(cfg, present, threads=threads)


def test_a_checkpoint_is_needed_first(tmp_path):
    with pytest.raises(SystemExit, match='needs a trained supernet. Give its checkpoint: .*search.py'):
        measure(digits.written(NAME, tmp_path), None)


def test_the_test_set_needs_trained_nets_that_have_one(digits_folder, tmp_path, present):
    with pytest.raises(ValueError, match='--test needs trained nets, but EntropyScore'):
        measure(digits.written('maedet-digits_search_retinanet', tmp_path), None, test=True)
    cfg = digits.written(NAME, tmp_path, search__export__config=None)
    cfg.pop('test_dataloader', None)
    with pytest.raises(ValueError, match='--test: the exported configs have no test set; set search.export.config'):
        measure(cfg, present, test=True)


@pytest.mark.parametrize(
    ('name', 'part', 'checkpoint', 'match'),
    [
        (NAME, 'head', None, 'part must be backbone or detector'),
        ('detnas-digits_search_cls', 'detector', None, 'needs a config of mmdet'),
        ('detnas-digits_supernet_retinanet', 'detector', 'a.pth', 'give a config with a search section'),
    ],
)
def test_what_cannot_be_measured(tmp_path, name, part, checkpoint, match):
    with pytest.raises(ValueError, match=match):
        measure_latency(digits.written(name, tmp_path), checkpoint, tmp_path / 'a.json', part, (96, 96), 'cpu')


def test_inputs_that_cannot_be():
    with pytest.raises(ValueError, match='part must be one of .*; got .head'):
        Inputs('head', (96, 96), 'cpu')
    with pytest.raises(ValueError, match="'cpu' or 'cuda'; got 'tpu'"):
        Inputs('backbone', (96, 96), 'tpu')


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


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ValueError, match='no CUDA device .* measure with --device cpu'):
        Inputs('backbone', (96, 96), 'cuda')


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
    assert 'sums vs 3 measured whole nets' in done.stdout and 'Kendall' in done.stdout
    found = json.loads(file.read_text())
    table = LatencyTable(DetNASSpace(found['space']), file, 'backbone', (32, 64))
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
        digits.CONFIGS / f'{NAME}.py', retinanet_supernet, '--measure', '--work-dir', work_dir, '--device', 'cpu',
        '--threads', 1, '--rounds', 2, '--cfg-options', f'search.costs.latency.file={table}', *OPTIONS,
    ]  # fmt: skip
    done = run('search.py', *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((work_dir / 'measured.json').read_text())
    best = json.loads((work_dir / 'best.json').read_text())
    assert [one['id'] for one in found['nets']] == [one['id'] for one in best] and len(best) >= 1
    measured = json.loads(table.read_text())
    assert (measured['part'], measured['images'], measured['input_size']) == ('detector', 'search-val', [96, 96])
    assert (found['part'], found['images'], found['input_size']) == ('detector', 'search-val', [96, 96])
    costs = LatencyTable(DetNASSpace(measured['space']), table)
    for one in found['nets']:
        assert (work_dir / one['config']).is_file() and (work_dir / one['checkpoint']).is_file()
        # what mmengine's own test gives is the fitness, to the three decimals that mmdet's metric has
        assert one['tested']['coco/bbox_mAP'] == pytest.approx(one['fitness']['coco/bbox_mAP'], abs=5.01e-4)
        assert one['costs']['latency'] == pytest.approx(costs.total(one['arch']))
        assert one['measured_ms'] > 0 and one['id'] in done.stdout and 'test_set' not in one
    assert matplotlib.image.imread(work_dir / 'front.png').std() > 0.02
    before = rows(work_dir), table.read_bytes()
    again = run('search.py', *arguments, '--test')
    assert again.returncode == 0, again.stderr[-3000:]
    assert (rows(work_dir), table.read_bytes()) == before
    for one in json.loads((work_dir / 'measured.json').read_text())['nets']:
        assert 0 <= one['test_set']['coco/bbox_mAP'] <= 1 and one['test_set'] != one['tested']
    other = run('search.py', *arguments[: -len(OPTIONS)], *OPTIONS, 'search.costs.latency.input_size=(96,128)')
    assert other.returncode == 1 and 'this search has (96, 128)' in other.stderr


@pytest.mark.slow
def test_a_search_without_a_table_is_measured_too(retinanet_supernet, tmp_path):
    """Nothing but exported configs is needed: images of search-val, at the size of the first."""
    config = digits.CONFIGS / 'detnas-digits_search_retinanet.py'
    arguments = [config, retinanet_supernet, '--measure', '--work-dir', tmp_path, '--device', 'cpu', '--threads', 1]
    done = run('search.py', *arguments, '--rounds', 2, '--cfg-options', *OPTIONS)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / 'measured.json').read_text())
    assert (found['part'], found['images'], found['predictions']) == ('detector', 'search-val', None)
    assert len(found['nets']) == 2 and not (tmp_path / 'front.png').exists()
    for one in found['nets']:
        assert one['measured_ms'] > 0 and one['as_measured'] == one['costs'] and not one['beaten']
        assert one['tested']['coco/bbox_mAP'] == pytest.approx(one['fitness']['coco/bbox_mAP'], abs=5.01e-4)


def test_several_processes_are_refused_with_what_to_type():
    config, more = digits.CONFIGS / f'{NAME}.py', ('--measure', '--rounds', 2)
    done = run('search.py', config, 'my net.pth', *more, '--launcher', 'pytorch')
    assert done.returncode == 1 and done.stderr.count('\n') == 1
    wanted = f'without --measure first; then: {typed("search.py", config, "my net.pth", *more)}\n'
    assert done.stderr.endswith(wanted)


def test_options_of_measuring_are_refused_without_it():
    done = run('search.py', digits.CONFIGS / f'{NAME}.py', '--threads', 1, '--test')
    assert done.returncode == 2 and '--threads, --test: only with --measure' in done.stderr


@pytest.mark.slow
def test_structures_in_one_command(tmp_path):
    """No checkpoint: tables, search, exported backbones in turn with ResNet-50; measured once, by the rounds given."""
    path, file = tmp_path / 'search.py', tmp_path / 'tables' / 'latency.json'
    path.write_text(f'search = {by_latency(file)!r}\n')
    done = run('search.py', path, '--measure', '--work-dir', tmp_path / 'w', '--threads', 1, '--rounds', 2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count('Measuring what was found') == 1 and f'Written to {file}' in done.stdout
    found = json.loads((tmp_path / 'w' / 'measured.json').read_text())
    assert json.loads(file.read_text())['input_size'] == found['input_size'] == [32, 48]
    assert (found['part'], found['pace']['rounds'], found['table']) == ('backbone', 2, str(file))
    assert found['references_ms']['now']['resnet50'] > 0 and (tmp_path / 'w' / 'front.png').is_file()
    for one in found['nets']:
        ratio = one['measured_ms'] / found['references_ms']['now']['resnet50']
        assert one['as_measured'] == dict(latency=one['measured_ms'], ratio=pytest.approx(ratio))
        assert one['measured_ms'] > 0 and 'tested' not in one
