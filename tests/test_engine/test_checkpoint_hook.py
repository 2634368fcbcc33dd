"""Checkpoints are written completely, kept for the right iterations and for the best scores."""

import os
from pathlib import Path

import pytest
from mmengine.evaluator import BaseMetric
from mmengine.hooks import CheckpointHook
from mmengine.registry import METRICS

from detnas_mm.engine import AtomicCheckpointHook
from detnas_mm.engine.hooks.checkpoint_hook import AtomicBackend
from detnas_mm.engine.resume import resume
from detnas_mm.engine.runner import NamedRunner
from tests.test_engine.seeded_training import config


@METRICS.register_module(force=True)
class Given(BaseMetric):
    """Values that were given, one an evaluation."""

    def __init__(self, values):
        super().__init__()
        self.values = iter(values)

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        value = next(self.values)
        return dict(acc=value, loss=-value)


def run(folder, values=(), epochs=3, **hook):
    hook = dict(type='CheckpointHook', interval=1) | hook
    more = dict(experiment_name=f'{folder.name}-{epochs}', train_cfg=dict(by_epoch=True, max_epochs=epochs))
    cfg = config(folder, workers=0, default_hooks=dict(checkpoint=hook), **more)
    if values:
        cfg.val_dataloader = dict(cfg.train_dataloader, sampler=dict(type='DefaultSampler', shuffle=False))
        cfg.val_cfg, cfg.val_evaluator = dict(), dict(type='Given', values=values)
    resume(cfg)
    runner = NamedRunner.from_cfg(cfg)
    runner.train()
    return next(one for one in runner.hooks if isinstance(one, CheckpointHook)), runner


def files(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix == '.pth')


@pytest.fixture
def moments(monkeypatch):
    """Records the content of the folder whenever a file of it is written or deleted."""
    seen = []

    def watched(name, method):
        def call(self, *args):
            seen.append((name, set(files(Path(args[-1]).parent))))
            method(self, *args)

        return call

    monkeypatch.setattr(AtomicBackend, 'put', watched('put', AtomicBackend.put))
    monkeypatch.setattr(AtomicBackend, 'remove', watched('remove', AtomicBackend.remove))
    return seen


@pytest.mark.parametrize('kept, expected', [(1, [3]), (2, [2, 3]), (-1, [1, 2, 3])])
def test_the_newest_are_kept(tmp_path, moments, kept, expected):
    hook, _ = run(tmp_path, max_keep_ckpts=kept)
    assert type(hook) is AtomicCheckpointHook
    assert files(tmp_path) == [f'epoch_{epoch}.pth' for epoch in expected]
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_3.pth')
    deleted = [there for what, there in moments if what == 'remove']
    assert len(deleted) == 3 - len(expected) and all(len(there) == kept + 1 for there in deleted)


def test_what_a_killed_process_left_is_deleted(tmp_path):
    """Half-written files, and a checkpoint that was to be deleted next."""
    run(tmp_path, max_keep_ckpts=1, epochs=2)
    names = ['.epoch_2.0123abcd.pth', '.best_acc_epoch_2.0123abcd.pth', '.last_checkpoint.0123abcd']
    others = ['.epoch_2.pth', 'epoch_9.pth', '.net.0123abcd.pth']
    for name in (*names, *others, 'epoch_1.pth'):
        (tmp_path / name).write_bytes(b'half')
    run(tmp_path, max_keep_ckpts=1)
    there = set(os.listdir(tmp_path))
    assert there >= {*others, 'epoch_3.pth'} and not there & {*names, 'epoch_1.pth', 'epoch_2.pth'}


def test_the_best_is_replaced_when_a_better_one_is_there(tmp_path, moments):
    values = [0.5, 0.4, 0.6]
    hook, _ = run(tmp_path, values, max_keep_ckpts=1, save_best='acc')
    assert files(tmp_path) == ['best_acc_epoch_3.pth', 'epoch_3.pth']
    assert hook.best_ckpt_path == str(tmp_path / 'best_acc_epoch_3.pth')
    assert all({'best_acc_epoch_1.pth', 'best_acc_epoch_3.pth'} & there for _, there in moments[3:])
    run(tmp_path, [0.55], epochs=4, max_keep_ckpts=1, save_best='acc')
    assert files(tmp_path) == ['best_acc_epoch_3.pth', 'epoch_4.pth']
    hook, _ = run(tmp_path, [0.7], epochs=5, max_keep_ckpts=1, save_best='acc')
    assert files(tmp_path) == ['best_acc_epoch_5.pth', 'epoch_5.pth']


def test_several_bests(tmp_path):
    hook, _ = run(tmp_path, [0.5, 0.4, 0.6], save_best=['acc', 'loss'], rule=['greater', 'greater'], max_keep_ckpts=1)
    assert files(tmp_path) == ['best_acc_epoch_3.pth', 'best_loss_epoch_2.pth', 'epoch_3.pth']
    assert {key: path.rpartition('_')[2] for key, path in hook.best_ckpt_path_dict.items()} == dict(
        acc='3.pth', loss='2.pth'
    )


def test_checkpoints_elsewhere(tmp_path):
    run(tmp_path / 'work', out_dir=str(tmp_path / 'out'), max_keep_ckpts=1)
    assert files(tmp_path / 'out' / 'work') == ['epoch_3.pth'] and files(tmp_path / 'work') == []
    assert (tmp_path / 'work' / 'last_checkpoint').read_text() == str(tmp_path / 'out' / 'work' / 'epoch_3.pth')


def test_a_subclass_and_another_backend_stay_as_they_are(tmp_path):
    class Own(CheckpointHook):
        pass

    cfg = config(tmp_path, workers=0, experiment_name=tmp_path.name)
    cfg.default_hooks.checkpoint.type = Own
    runner = NamedRunner.from_cfg(cfg)
    assert [type(one) for one in runner.hooks if isinstance(one, CheckpointHook)] == [Own]
    hook, _ = run(tmp_path, backend_args=dict(backend='local'))
    assert not isinstance(hook.file_backend, AtomicBackend) and 'epoch_3.pth' in files(tmp_path)
