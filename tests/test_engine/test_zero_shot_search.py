"""A search without training, as users start it: no checkpoint, no Runner, no data; export; going on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from detnas_mm.engine.search import export_row, run_search
from detnas_mm.models import MAEDetNet
from detnas_mm.search import read_snapshots

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
    cfg = Config(dict(search=SEARCH, work_dir=str(tmp_path / 'work'), **more))
    (tmp_path / 'work').mkdir(parents=True, exist_ok=True)
    return cfg


def test_it_runs_and_exports_the_backbone(tmp_path):
    lines = []
    best = run_search(config(tmp_path), log=lines.append)
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
    assert run_search(config(tmp_path), log=lines.append) == best
    assert (work / 'ledger.jsonl').read_bytes() == before
    exported, weights = export_row(work, best[5].id)
    assert weights is None and Config.fromfile(exported).model.backbone.arch == best[5].arch


def test_with_a_model_the_whole_config_is_exported(tmp_path):
    """All of the config but the search; the neck is told the channels; the search had turned SyncBN into BN."""
    from detnas_mm.engine.launch import fit_to_machine

    cfg = config(tmp_path / 'a b', model=DETECTOR, load_from=None, train_cfg=dict(max_epochs=73), default_scope='mmdet')
    fit_to_machine(cfg)
    assert cfg.model.backbone.norm_cfg.type == 'BN'
    lines = []
    best = run_search(cfg, log=lines.append)
    path = tmp_path / 'a b/work' / json.loads((tmp_path / 'a b/work/best.json').read_text())[0]['config']
    found = Config.fromfile(path)
    with torch.device('meta'):
        channels = MAEDetNet(best[0].arch).channels
    assert found.model.neck.in_channels == list(channels[1:])
    assert found.model.backbone == dict(DETECTOR['backbone'], arch=best[0].arch)
    assert found.train_cfg.max_epochs == 73 and not {'search', 'work_dir', 'load_from', 'as_written'} & set(found)
    assert lines[-1] == f"Train it: python tools/train.py '{path}'"


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ('change', 'match'),
    [
        (dict(evaluator=dict(type='EntropyScore', weights=(1, 1))), '2 stage weights .* and 5 stages'),
        (dict(constraints=[dict(cost='latency', high=1)]), "asks for 'latency', which nothing produces"),
        (dict(constraints=[dict(cost='flops', high=1e6)]), 'No architecture can meet flops ≤ 1,000,000'),
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
