"""A training with random numbers wherever a detector's has them, in processes of its own, which may be killed."""

import multiprocessing
import os
import random
import signal
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, LOOPS, MODELS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import Dataset

from detnas_mm.engine.resume import resume
from detnas_mm.engine.runner import NamedRunner
from detnas_mm.engine.seeding import seed_loader
from tests import digits

BATCHES = 3
#: Imported once for all new processes of a session: mmdet takes seconds.
LIBRARIES = ('mmdet.models', 'mmdet.datasets', 'mmdet.engine', 'detnas_mm.engine.launch')


@DATASETS.register_module(force=True)
class Augmented(Dataset):
    """Numbers with noise from all generators that transforms use."""

    def __len__(self):
        return 4 * BATCHES

    def __getitem__(self, index):
        noise = [random.random(), np.random.rand(), float(torch.rand(()))]
        return dict(x=torch.tensor([index / len(self), *noise]), y=torch.tensor([index / 6]))


@MODELS.register_module(force=True)
class Dropped(BaseModel):
    """Dropout, and samples weighted by numpy's and Python's numbers, as mmdet chooses boxes."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))

    def forward(self, x, y, mode='loss'):
        if mode == 'predict':
            return self.layers(x).tolist()
        weights = torch.tensor(np.random.rand(len(x), 1) + random.random(), dtype=x.dtype)
        return dict(loss=(weights * (self.layers(x) - y) ** 2).mean())


@HOOKS.register_module(force=True)
class Killed(Hook):
    """Ends the process in an epoch, or after the hooks that write rows (priority LOW), or while it saves."""

    priority = 80  # before CheckpointHook

    def __init__(self, what, number):
        self.at = what, number

    def die_at(self, *here):
        if self.at == here:
            os.kill(os.getpid(), signal.SIGKILL)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.die_at('iteration', runner.iter)

    def after_train_epoch(self, runner):
        self.die_at('row', runner.epoch)
        if self.at == ('writing', runner.epoch):
            LocalBackend.put = lambda backend, content, path: _write_half(path, content)
            Path.write_bytes = _write_half

    def before_train_epoch(self, runner):
        self.die_at('checkpoint', runner.epoch - 1)


@LOOPS.register_module(force=True)
class TwoLoaders(EpochBasedTrainLoop):
    """A loop with a second loader, as one that trains weights and architecture in turn has."""

    def __init__(self, runner, dataloader, second, **kwargs):
        super().__init__(runner, dataloader, **kwargs)
        self.second = runner.build_dataloader(second, seed=runner.seed)

    def run_epoch(self):
        seed_loader(self.second, 1, self.epoch)
        self.batches = iter(self.second)
        super().run_epoch()

    def run_iter(self, idx, data_batch):
        super().run_iter(idx, data_batch)
        self.runner.model.train_step(next(self.batches), self.runner.optim_wrapper)


def _write_half(path, content):
    with open(path, 'wb') as file:
        file.write(content[: len(content) // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def config(folder, kill=None, workers=2, persistent=False, hook=True, ranks=1, second=None, **more):
    kill = [dict(type='Killed', what=kill[0], number=kill[1])] if kill else []
    loader = dict(num_workers=workers, persistent_workers=persistent)
    cfg = dict(
        work_dir=str(folder),
        model=dict(type='Dropped'),
        train_dataloader=dict(
            batch_size=4 // ranks, dataset=dict(type='Augmented'), sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='default_collate'), **loader,
        ),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=0.1)),
        param_scheduler=[dict(type='ExponentialLR', gamma=0.5)],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1)),
        custom_hooks=[*([dict(type='detnas_mm.EpochSeedHook')] if hook else []), *kill],
        randomness=dict(seed=0),
        default_scope='mmengine',
        log_level='WARNING',
    )  # fmt: skip
    if second:  # the sampler of the second loader
        other = dict(cfg['train_dataloader'], sampler=dict(type=second))
        cfg['train_cfg'] = dict(type='TwoLoaders', max_epochs=3, second=other)
    return Config(cfg | more)


def detector(folder, data, kill=None, hook=True):
    """The config of a Faster R-CNN, whose heads choose boxes at random, with random transforms; of a Digits folder."""
    os.environ['DETNAS_DIGITS'] = str(data)  # new processes may be older than the test that made the folder
    cfg = digits.config('detnas-digits_net_fpn', folder)
    loader = cfg.train_dataloader
    loader.update(batch_size=2, num_workers=2, persistent_workers=True, num_batch_per_epoch=3)
    loader.sampler = dict(type='DefaultSampler', shuffle=True)
    loader.dataset.pipeline[2:3] = [
        dict(type='RandomResize', scale=(96, 96), ratio_range=(0.8, 1.2), keep_ratio=True),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PhotoMetricDistortion'),
    ]
    small = config(folder, kill, hook=hook)
    cfg.train_cfg = dict(by_epoch=True, max_epochs=2)
    cfg.default_hooks.checkpoint = small.default_hooks.checkpoint
    cfg.custom_hooks += small.custom_hooks
    return cfg


def train(folder, kill=None, plain=False, rank=None, digits_folder=None, **settings):
    """Trains, resuming what there is; writes final.pth. With ``plain`` by mmengine's own Runner and hook."""
    torch.set_num_threads(1)
    ranks = 1 if rank is None else 2
    if digits_folder:
        cfg = detector(folder, digits_folder, kill, **settings)
    else:
        cfg = config(folder, kill, ranks=ranks, **settings)
    if rank is not None:
        os.environ['LOCAL_RANK'] = str(rank)
        dist.init_process_group('gloo', init_method=f'file://{folder}.group', rank=rank, world_size=2)
        cfg.launcher = 'pytorch'
        cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    resume(cfg)
    runner = (Runner if plain else NamedRunner).from_cfg(cfg)
    runner.train()
    model = runner.model if rank is None else runner.model.module
    torch.save(
        dict(model=model.state_dict(), optimiser=runner.optim_wrapper.state_dict(), numbers=torch.rand(3)),
        Path(folder, f'final{rank or ""}.pth'),
    )


def in_process(*args, **kwargs):
    """Exit codes of ``train`` in new processes; see :func:`in_new_processes`."""
    return in_new_processes(train, *args, **kwargs)


def in_new_processes(target, *args, ranks=1, **kwargs):
    """Exit codes of a function in new processes, which share one import of the stack; with ``ranks=2`` in two."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([target.__module__, *LIBRARIES])
    each = [{}] if ranks == 1 else [dict(rank=rank) for rank in range(ranks)]
    processes = [context.Process(target=target, args=args, kwargs=kwargs | one) for one in each]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes[0] if ranks == 1 else codes


def final(folder, rank=0):
    """Returns the final state of a training: weights, buffers, optimiser states, next random numbers; as lists."""
    return as_lists(torch.load(Path(folder, f'final{rank or ""}.pth'), weights_only=False))


def as_lists(value):
    """Tensors as nested lists, which compare to the bit."""
    if isinstance(value, dict):
        return {key: as_lists(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_lists(item) for item in value]
    return value.tolist() if torch.is_tensor(value) else value
