"""Training-free search, as users start it: no checkpoint, no Runner, no data; export; resuming."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from detnas_mm.cli import typed
from detnas_mm.engine.search import export_row
from detnas_mm.search import read_snapshots
from detnas_mm.systems.mae_det import MAEDetNet
from tests import jobs

ROOT = Path(__file__).parents[2]
SEARCH = dict(
    space=dict(type='MAEDetSpace', space='authors'),
    strategy=dict(type='PopulationEvolution', population=32, candidates=500),
    evaluator=dict(type='EntropyScore'),
    objectives=[dict(name='entropy')],
    costs=dict(flops=dict(type='StructureFlops', input_size=(480, 480)), params=dict(type='StructureParams')),
    constraints=[dict(cost='flops', high=188e8)],
    budget=dict(generations=2),
    export=dict(top_k=2),
)
DETECTOR = dict(
    type='RetinaNet',
    backbone=dict(type='detnas_mm.MAEDetNet', arch='maedet-s', out_indices=(1, 2, 3), norm_cfg=dict(type='SyncBN')),
    neck=dict(type='FPN', in_channels=[272, 1024, 2048], out_channels=8, num_outs=3),
)


def config(tmp_path, **more):
    return Config(dict(search=SEARCH, work_dir=str(tmp_path / 'work'), **more))


def test_it_runs_and_exports_the_backbone(tmp_path):
    lines = []
    _, best = jobs.run(config(tmp_path), lines.append)
    work = tmp_path / 'work'
    entries = json.loads((work / 'best.json').read_text())
    assert [e['arch'] for e in entries] == [r.arch for r in best[:2]]
    backbone = Config.fromfile(work / entries[0]['config']).model.backbone
    assert backbone == dict(type='detnas_mm.MAEDetNet', arch=best[0].arch)
    with torch.device('meta'):
        MAEDetNet(backbone.arch)
    assert (work / 'progress.png').read_bytes()[:4] == b'\x89PNG'
    assert len(read_snapshots(work / 'ledger.jsonl')) == 2
    assert lines[-1].startswith('Its backbone, for any config: ')
    before = (work / 'ledger.jsonl').read_bytes()
    assert jobs.run(config(tmp_path), lines.append)[1] == best
    assert (work / 'ledger.jsonl').read_bytes() == before
    files = export_row(work, best[5].id)
    assert set(files) == {'config'} and Config.fromfile(files['config']).model.backbone.arch == best[5].arch


def test_with_a_model_the_whole_config_is_exported(tmp_path):
    """All of the config but the search; the neck gets the channels; SyncBN stays."""
    cfg = config(
        tmp_path / 'a b', model=DETECTOR, load_from=None, train_cfg=dict(max_epochs=73), default_scope='mmdet',
        train_dataloader=dict(batch_size=2),
    )  # fmt: skip
    lines = []
    _, best = jobs.run(cfg, lines.append)
    path = tmp_path / 'a b/work' / json.loads((tmp_path / 'a b/work/best.json').read_text())[0]['config']
    found = Config.fromfile(path)
    with torch.device('meta'):
        channels = MAEDetNet(best[0].arch).channels
    assert found.model.neck.in_channels == list(channels[1:])
    assert found.model.backbone == dict(DETECTOR['backbone'], arch=best[0].arch)
    assert found.train_cfg.max_epochs == 73 and not {'search', 'work_dir', 'load_from'} & set(found)
    assert lines[-1] == f'Train it: {typed("train.py", path)}'


@pytest.mark.parametrize('out_indices', [(0, 1, 2, 3), 3])
def test_a_detector_that_asks_for_more_stages_is_refused_before_the_search(tmp_path, out_indices):
    section = SEARCH | dict(
        space=dict(type='MAEDetSpace', space=dict(strides=[2, 2, 1, 1, 2])),
        evaluator=dict(type='EntropyScore', weights=(0, 1, 1, 6)),
    )
    model = DETECTOR | dict(backbone=DETECTOR['backbone'] | dict(out_indices=out_indices))
    cfg = Config(dict(search=section, work_dir=str(tmp_path), model=model))
    with pytest.raises(ValueError, match='out_indices of the config .* space have 3 stages'):
        jobs.run(cfg)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize('score', [dict(weights=(0, 0, 1, 1, 8)), dict(input_size=(480, 480))])
def test_nothing_is_proven_of_another_score(score):
    """Refused before anything is searched: a bound on one score is none on another."""
    section = SEARCH | dict(evaluator=dict(type='EntropyScore', **score))
    exact = dict(type='ExactStrategy', score=dict(type='EntropyScore'))
    for strategy in (exact, SEARCH['strategy'] | dict(proof=exact)):
        with pytest.raises(ValueError, match=r'in search.strategy has score .* and search.evaluator is .*not valid'):
            jobs.prepared(dict(search=section | dict(strategy=strategy)))
        jobs.prepared(dict(search=SEARCH | dict(strategy=strategy)))


@pytest.mark.slow
def test_by_the_tool(tmp_path):
    (tmp_path / 'search.py').write_text(f'search = {SEARCH!r}\n')
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tools/search.py'), str(tmp_path / 'search.py'), '--work-dir', str(tmp_path / 'w')],
        capture_output=True, text=True, env=os.environ | {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count('acceptance rate') == 2 and 'Best of ' in done.stdout
    assert (tmp_path / 'w/best.json').is_file()


ON_A_GPU_MACHINE = """
import runpy, sys
from detnas_mm.engine import config, process_group
config.cuda_usable = process_group.cuda_usable = lambda: True
sys.argv[0] = {tool!r}
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def plain(path):
    return [(s.generation, s.drawn, s.evaluated, s.population) for s in read_snapshots(path)]


@pytest.mark.slow
@pytest.mark.parametrize('cuda', [False, True])
def test_two_processes_make_one_ledger(tmp_path, cuda):
    """Rank 0 writes and speaks; where there are GPUs no Runner makes the process group."""
    (tmp_path / 'search.py').write_text(f'search = {SEARCH!r}\n')
    jobs.run(config(tmp_path))
    (tmp_path / 'tool.py').write_text(ON_A_GPU_MACHINE.format(tool=str(ROOT / 'tools/search.py')))
    command = ['bash', str(ROOT / 'tools/dist_search.sh'), str(tmp_path / 'search.py'), '2']
    if cuda:
        command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
        command += [str(tmp_path / 'tool.py'), str(tmp_path / 'search.py'), '--launcher', 'pytorch']
    environment = os.environ | {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'PYTHON': sys.executable}
    done = subprocess.run([*command, '--work-dir', str(tmp_path / 'two')], capture_output=True, text=True,
                          env=environment)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert plain(tmp_path / 'two/ledger.jsonl') == plain(tmp_path / 'work/ledger.jsonl')
    for line in ('generation 1/2', 'generation 2/2', 'Best of '):
        assert done.stdout.count(line) == 1, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ('change', 'match'),
    [
        (dict(evaluator=dict(type='EntropyScore', weights=(1, 1))), 'has 2 entries; .* have 5 stages'),
        (dict(constraints=[dict(cost='latency', high=1)]), "names the cost 'latency', which the search does not have"),
        (dict(constraints=[dict(cost='flops', high=1e6)]), 'No architecture meets flops ≤ 1,000,000'),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, change, match):
    (tmp_path / 'search.py').write_text(f'search = {SEARCH | change!r}\n')
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tools/search.py'), str(tmp_path / 'search.py'), '--work-dir', str(tmp_path / 'w')],
        capture_output=True, text=True, env=os.environ | {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
    )  # fmt: skip
    assert done.returncode == 1
    import re

    assert re.search(match, done.stderr) and 'Traceback' not in done.stderr, done.stderr


# -- by latency ---------------------------------------------------------------------------------------------------

TINY = dict(strides=[2, 2], stem_widths=[8, 16], widths=[8, 32], growth=[1, 4], depths=[1, 2])


def by_latency(file):
    """A search for the front of entropy against latency, in a space that is measured in seconds."""
    costs = dict(
        latency=dict(type='StructureLatency', file=str(file), input_size=(32, 48)),
        ratio=dict(type='StructureLatency', file=str(file), relative_to='resnet50'),
    )
    return dict(
        space=dict(type='MAEDetSpace', space=TINY),
        strategy=dict(type='ParetoStrategy', population=20, parents=10, mutation_prob=1.0),
        evaluator=dict(type='EntropyScore', weights=(0, 1, 1)),
        objectives=[dict(name='entropy'), dict(name='latency', direction='minimize')],
        costs=costs,
        constraints=[dict(cost='ratio', high=1.0)],
        budget=dict(generations=2),
        export=dict(front_k=2),
    )


def run_tool(script, *arguments):
    command = [sys.executable, '-W', 'ignore', str(ROOT / 'tools' / script), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    )


@pytest.mark.slow
def test_measuring_and_searching_by_latency(tmp_path):
    """The two commands of the docs: tables on this machine, with their check, then a front of nets of the space."""
    from detnas_mm.systems.mae_det import StructureLatency

    path, file = tmp_path / 'search.py', tmp_path / 'tables' / 'latency.json'
    path.write_text(f'search = {by_latency(file)!r}\n')
    early = run_tool('search.py', path, '--work-dir', tmp_path / 'w')
    assert early.returncode == 1 and 'measure_latency.py CONFIG' in early.stderr and 'Traceback' not in early.stderr
    arguments = [path, '--device', 'cpu', '--threads', 1, '--rounds', 2, '--nets', 4, '--grid', 2]
    done = run_tool('analysis_tools/measure_latency.py', *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'backbone (MAEDetNet), one image of 32x48 (noise)' in done.stdout
    assert 'sums vs 4 measured whole nets' in done.stdout and "relative_to='resnet50'" in done.stdout
    found = json.loads(file.read_text())
    assert found['device']['threads'] == 1 and found['pace']['rounds'] == 2 and len(found['check']['rows']) == 4
    table = StructureLatency(TINY, file, (32, 48))
    for row in found['check']['rows']:
        assert row['predicted_ms'] == pytest.approx(table.total(row['arch']), rel=1e-4) and row['measured_ms'] > 0
    done = run_tool('search.py', path, '--work-dir', tmp_path / 'w')
    assert done.returncode == 0, done.stderr[-3000:]
    entries = json.loads((tmp_path / 'w/best.json').read_text())
    assert 1 <= len(entries) <= 2 and all((tmp_path / 'w' / entry['config']).is_file() for entry in entries)
    assert all(entry['costs']['latency'] == pytest.approx(table.total(entry['arch'])) for entry in entries)
    again = json.loads((tmp_path / 'w/measured.json').read_text())
    assert [net['arch'] for net in again['nets']] == [entry['arch'] for entry in entries]
    assert 'predicted vs measured' in done.stdout and again['pace']['rounds'] == 10
    found = run_tool('analysis_tools/measure_latency.py', path, '--found', '--work-dir', tmp_path / 'w', '--rounds', 2)
    assert found.returncode == 0 and 'predicted vs measured' in found.stdout, found.stderr[-3000:]
    assert json.loads((tmp_path / 'w/measured.json').read_text())['pace']['rounds'] == 2
    refused = run_tool('analysis_tools/measure_latency.py', path, '--part', 'detector')
    assert refused.returncode == 1 and 'part must be backbone' in refused.stderr
    one = run_tool('analysis_tools/measure_latency.py', *arguments[:-1], 1)
    assert one.returncode == 1 and 'grid must be at least 2 widths per place; got 1' in one.stderr
