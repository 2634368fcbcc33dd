"""A search with its measuring: errors before it, and the whole command."""

import json
import subprocess
import sys
from contextlib import nullcontext

import matplotlib.image
import pytest
import torch

from detnas_mm.cli import typed
from detnas_mm.engine.latency import measure_latency
from detnas_mm.engine.measure import search_and_measure
from detnas_mm.latency import LatencyTable
from detnas_mm.latency.inputs import Inputs, load_model
from detnas_mm.latency.timing import Pace
from detnas_mm.registry import SPACES, build_from
from detnas_mm.systems.detnas import DetNASSpace
from tests import digits, jobs, latency
from tests.test_engine.test_search_jobs import OPTIONS, ROOT, rows
from tests.test_engine.test_zero_shot_search import by_latency

NAME = 'detnas-digits_search-latency_retinanet'


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
