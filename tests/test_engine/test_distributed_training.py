"""Supernet training on two CPU processes, by the script that users type."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import digits

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]

WITNESS = """
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class SaveEachRank(Hook):
    priority = 'LOWEST'

    def before_train(self, runner):
        self.paths = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.paths.append(list(runner.model.module.backbone.active_path.genes))

    def after_train(self, runner):
        model, optimiser = runner.model.module.state_dict(), runner.optim_wrapper.state_dict()
        torch.save(dict(model=model, optimiser=optimiser, paths=self.paths), f'{runner.work_dir}/rank{get_rank()}.pth')
"""


def test_two_ranks_stay_equal(digits_folder, tmp_path):
    """Parameters and optimiser state on both ranks; buffers once SyncBuffersHook has run (at an epoch's end)."""
    (tmp_path / 'witness.py').write_text(WITNESS)
    config = tmp_path / 'two_ranks.py'
    config.write_text(f"""
_base_ = {str(digits.CONFIGS / 'detnas-digits_supernet_retinanet.py')!r}
custom_imports = dict(imports=['witness'])
custom_hooks = [dict(type='detnas_mm.PathSamplingHook'), dict(type='SyncBuffersHook'), dict(type='SaveEachRank')]
train_dataloader = dict(
    batch_size=4, sampler=dict(type='DefaultSampler', shuffle=True, _delete_=True), num_batch_per_epoch=5
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1, _delete_=True)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.1, _delete_=True))
param_scheduler = []
""")
    done = subprocess.run(
        ['bash', str(ROOT / 'tools' / 'dist_train.sh'), str(config), '2', '--work-dir', str(tmp_path / 'out')],
        capture_output=True,
        text=True,
        env=os.environ | {'PYTHON': sys.executable, 'PYTHONPATH': str(tmp_path), 'OMP_NUM_THREADS': '1'},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / 'out' / f'rank{i}.pth', weights_only=False) for i in (0, 1))
    assert first['paths'] == second['paths'] and len({tuple(p) for p in first['paths']}) > 3
    assert all(torch.equal(first['model'][k], second['model'][k]) for k in first['model'])
    states = first['optimiser']['state'], second['optimiser']['state']
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][i]['momentum_buffer'], states[1][i]['momentum_buffer']) for i in states[0])
    # What no sampled path holds has no momentum: no gradient ever reached it.
    start = digits.runner('detnas-digits_supernet_retinanet', tmp_path / 'fresh').model
    names = [name for name, _ in start.named_parameters()]
    used = {f'backbone.blocks.{i}.{choice}.' for path in first['paths'] for i, choice in enumerate(path)}
    for i, name in enumerate(names):
        if '.blocks.' in name:
            assert (i in states[0]) == any(name.startswith(prefix) for prefix in used), name


def test_sync_bn_becomes_bn_on_processes_without_gpu(digits_folder, tmp_path):
    """Faster R-CNN with SyncBN in backbone, neck and head trains a step and is tested on two ranks."""
    config = str(digits.CONFIGS / 'detnas-digits_net_fpn.py')
    options = ['--work-dir', str(tmp_path), '--cfg-options', 'train_cfg.max_iters=1', 'train_dataloader.batch_size=2']
    environment = os.environ | {'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'}
    trained = subprocess.run(
        ['bash', str(ROOT / 'tools' / 'dist_train.sh'), config, '2', *options],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr[-3000:]
    assert 'Replaced SyncBN by BN in 3 layers of the config: no GPU.' in trained.stdout + trained.stderr
    tested = subprocess.run(
        ['bash', str(ROOT / 'tools' / 'dist_test.sh'), config, str(tmp_path / 'iter_1.pth'), '2', *options],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert tested.returncode == 0, tested.stderr[-3000:]
