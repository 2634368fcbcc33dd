"""A training that is killed at any moment and resumed ends with the bits of one that was never killed."""

import random

import numpy as np
import pytest
import torch
from mmdet.datasets.samplers import AspectRatioBatchSampler
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset

from detnas_mm.engine import EpochSeedHook, seed_loader, seed_process
from detnas_mm.engine.hooks.seed_hook import GRADIENTS
from detnas_mm.engine.resume import last_checkpoint, resume
from detnas_mm.engine.runner import NamedRunner
from detnas_mm.errors import DetNASError
from tests.test_engine.seeded_training import as_lists, config, final, in_process

MOMENTS = [('iteration', 1), ('iteration', 4), ('row', 1), ('writing', 1), ('checkpoint', 1)]


@pytest.fixture(scope='module')
def never_killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    assert in_process(folder) == 0
    return final(folder)


@pytest.mark.parametrize('persistent', [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize('moment', MOMENTS, ids=str)
def test_killed_and_resumed_it_ends_the_same(tmp_path, never_killed, moment, persistent):
    """In the first epoch, in the second, before its checkpoint, while that is written, and after."""
    assert in_process(tmp_path, kill=moment, persistent=persistent) == -9
    assert in_process(tmp_path, persistent=persistent) == 0
    assert final(tmp_path) == never_killed
    names = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert names == {'epoch_3.pth', 'last_checkpoint', 'final.pth'} | {name for name in names if name.endswith('.py')}


@pytest.mark.parametrize('loading', [dict(workers=0), dict(workers=1), dict(persistent=True)], ids=str)
def test_how_items_are_loaded_changes_nothing(tmp_path, never_killed, loading):
    assert in_process(tmp_path, **loading) == 0
    assert final(tmp_path) == never_killed


def test_another_seed_is_another_training(tmp_path, never_killed):
    assert in_process(tmp_path, custom_hooks=[dict(type='detnas_mm.EpochSeedHook', seed=1)]) == 0
    assert final(tmp_path) != never_killed


@pytest.mark.slow
@pytest.mark.parametrize('persistent', [False, True])
def test_without_the_hook_it_ends_otherwise(tmp_path, persistent):
    """Shows that the tests above can fail."""
    settings = dict(hook=False, persistent=persistent)
    assert in_process(tmp_path / 'whole', **settings) == in_process(tmp_path / 'again', **settings) == 0
    assert final(tmp_path / 'whole') == final(tmp_path / 'again')
    assert in_process(tmp_path / 'killed', kill=('checkpoint', 1), **settings) == -9
    assert in_process(tmp_path / 'killed', **settings) == 0
    assert final(tmp_path / 'whole') != final(tmp_path / 'killed')


def test_mmengines_own_checkpoint_hook_leaves_none(tmp_path):
    """Killed while it writes the second one: which shows what ours is for."""
    assert in_process(tmp_path, kill=('writing', 1), plain=True) == -9
    with pytest.raises(DetNASError, match='epoch_1.pth. .* has no other checkpoint'):
        last_checkpoint(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('second', ['InfiniteSampler', 'DefaultSampler'])
def test_a_loop_seeds_its_second_loader(tmp_path, second):
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    assert in_process(whole, second=second, persistent=True) == 0
    assert in_process(killed, second=second, persistent=True, kill=('iteration', 4)) == -9
    assert in_process(killed, second=second) == 0
    assert final(whole) == final(killed)


@pytest.mark.slow
def test_two_ranks(tmp_path):
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    assert in_process(whole, ranks=2) == [0, 0]
    assert in_process(killed, ranks=2, kill=('row', 1)) == [-9, -9]
    (tmp_path / 'killed.group').unlink(missing_ok=True)
    assert in_process(killed, ranks=2) == [0, 0]
    assert [final(whole, rank) for rank in (0, 1)] == [final(killed, rank) for rank in (0, 1)]
    assert final(whole)['numbers'] != final(whole, 1)['numbers']


@pytest.mark.slow
def test_a_detector(digits_folder, tmp_path):
    """Faster R-CNN with flips, sizes and colours at random."""
    whole, killed, other, again = (tmp_path / name for name in ('whole', 'killed', 'other', 'again'))
    settings = dict(digits_folder=digits_folder)
    assert in_process(whole, **settings) == 0
    assert in_process(killed, kill=('iteration', 4), **settings) == -9
    assert in_process(killed, **settings) == 0
    assert final(whole) == final(killed)
    settings['hook'] = False
    assert in_process(other, kill=('iteration', 4), **settings) == -9
    assert in_process(other, **settings) == in_process(again, **settings) == 0
    assert final(other)['model'] != final(again)['model']


class Noise(Dataset):
    """Items of one random number from each generator, after the index."""

    def __init__(self, size=10):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return torch.tensor([index, random.random(), np.random.rand(), float(torch.rand(()))], dtype=torch.float64)


def loader(workers=2, persistent=False, sampler=None, **settings):
    data = Noise()
    sampler = None if sampler is None else sampler(data)
    settings = dict(batch_size=4, shuffle=True if sampler is None else None) | settings
    return DataLoader(data, num_workers=workers, persistent_workers=persistent, sampler=sampler, **settings)


def items(one, seed=0, epoch=0, batches=3):
    seed_loader(one, seed, epoch)
    return torch.cat([batch for batch, _ in zip(one, range(batches))]).tolist()


SAMPLERS = [None, DefaultSampler, InfiniteSampler]


@pytest.mark.parametrize('sampler', SAMPLERS)
def test_a_pass_follows_from_seed_and_epoch_alone(sampler):
    """Independent of earlier passes and their loaders, and of a pass that was not finished."""
    one, alone = loader(persistent=True, sampler=sampler), loader(workers=0, sampler=sampler)
    first = items(one)
    items(one, epoch=1, batches=1)
    second = items(one, epoch=2)
    torch.rand(5)
    assert first == items(alone) == items(one) and second == items(alone, epoch=2) == items(
        loader(sampler=sampler), epoch=2
    )
    order, other = ([int(item[0]) for item in found] for found in (first, second))
    assert order != other and sorted(order[:10]) == sorted(other[:10]) == list(range(10))
    numbers = {number for item in first + second for number in item[1:]}
    assert len(numbers) == 3 * len(first + second)
    assert items(alone, seed=1) != first


def test_the_order_follows_from_the_seed_where_the_config_has_none():
    """Mmengine then draws another one in each process."""
    samplers = [DefaultSampler(Noise(), seed=seed) for seed in (1, 2)]
    found = [items(DataLoader(Noise(), batch_size=4, sampler=sampler)) for sampler in samplers]
    assert found[0] == found[1]


def test_a_batch_sampler_of_ones_own_keeps_its_attributes():
    batches = BatchSampler(DefaultSampler(Noise(), seed=3), 4, drop_last=True)
    one = DataLoader(Noise(), batch_sampler=batches)
    assert items(one) == items(loader(sampler=DefaultSampler))[:8]
    assert len(one) == 2 and one.batch_sampler.batch_size == 4 and one.batch_sampler.sampler is batches.sampler
    assert not hasattr(one.batch_sampler, 'set_epoch')


class Photos(Noise):
    """Items that are wide or high."""

    def get_data_info(self, index):
        return dict(width=1 + index % 3, height=2)


def by_ratio(batch_size, workers):
    """A loader of COCO's configs: batches of images that are all wide, or all high."""
    sampler = DefaultSampler(Photos(), seed=0)
    settings = dict(num_workers=workers, persistent_workers=workers > 0)
    return DataLoader(sampler.dataset, batch_sampler=AspectRatioBatchSampler(sampler, batch_size), **settings)


@pytest.mark.parametrize('batch_size', [1, 2])
@pytest.mark.parametrize('workers', [0, 1])
def test_what_a_pass_leaves_over_is_not_in_the_next(batch_size, workers):
    """The sampler keeps indices of a pass that is not read to its end, as α's is in a search by gradient."""
    one = by_ratio(batch_size, workers)
    items(one, batches=2)
    assert items(one, epoch=1, batches=9) == items(by_ratio(batch_size, 0), epoch=1, batches=9)


def test_a_process_that_loads_items_itself_keeps_its_random_numbers():
    seed_process(0, 5)
    expected = random.random(), np.random.rand(), torch.rand(1)
    seed_process(0, 5)
    items(loader(workers=0))
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected
    seed_process(0, 6)
    assert random.random() != expected[0]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(4))


@pytest.mark.parametrize(
    'one, message',
    [
        (DataLoader(Noise(), batch_size=None), 'batch_size=None cannot be seeded'),
        (DataLoader(Stream(), batch_size=2), 'an IterableDataset cannot be seeded'),
        (DataLoader(Noise(), in_order=False), 'in_order=False has no fixed order of batches'),
    ],
)
def test_a_loader_that_cannot_be_seeded_is_refused(one, message):
    with pytest.raises(DetNASError, match=message):
        seed_loader(one, 0, 0)


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(randomness=dict(seed=None)), 'randomness.seed is None'),
        (
            dict(train_cfg=dict(by_epoch=False, max_iters=1)),
            'IterBasedTrainLoop has none: use detnas_mm.IterationSeedHook',
        ),
        (
            dict(default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, save_optimizer=False))),
            'set by_epoch=True, save_optimizer=True in default_hooks.checkpoint',
        ),
    ],
)
def test_a_training_that_cannot_resume_to_the_bit_is_refused(tmp_path, change, message):
    cfg = config(tmp_path, workers=0, **change)
    cfg.experiment_name = tmp_path.name
    with pytest.raises(DetNASError, match=message):
        NamedRunner.from_cfg(cfg).train()


def test_a_seed_must_be_a_whole_number():
    with pytest.raises(DetNASError, match="EpochSeedHook.seed must be a whole number of at least 0; got '1'"):
        EpochSeedHook(seed='1')


class Stopped(Exception):
    pass


@HOOKS.register_module(force=True)
class Stops(Hook):
    """Ends a training within an iteration, as a kill does, but stays in this process."""

    def __init__(self, at):
        self.at = at

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.at:
            raise Stopped


ACCUMULATED = dict(type='OptimWrapper', accumulative_counts=2, optimizer=dict(type='Adam', lr=0.1))
BY_ITERATION = dict(
    train_cfg=dict(type='IterBasedTrainLoop', max_iters=7),
    default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=3)),
    param_scheduler=[],
)


@pytest.mark.parametrize('kind, changes', [('EpochSeedHook', {}), ('IterationSeedHook', BY_ITERATION)])
def test_gradients_of_an_unfinished_step_are_in_the_checkpoint(tmp_path, kind, changes):
    """An epoch has 3 iterations and a step 2, so the checkpoint of iteration 3 is written within a step."""

    def weights(folder, *stops):
        hooks = [dict(type=f'detnas_mm.{kind}'), *stops]
        cfg = config(folder, workers=0, optim_wrapper=ACCUMULATED, custom_hooks=hooks, **changes)
        cfg.experiment_name = f'{folder.name} {len(stops)} {kind}'
        resume(cfg)
        runner = NamedRunner.from_cfg(cfg)
        runner.train()
        return as_lists(runner.model.state_dict())

    with pytest.raises(Stopped):
        weights(tmp_path / 'stopped', dict(type='Stops', at=4))
    saved = torch.load(last_checkpoint(tmp_path / 'stopped'), weights_only=False)
    assert saved['meta']['iter'] == 3 and saved[GRADIENTS].keys() == saved['state_dict'].keys() - set(BUFFERS)
    assert weights(tmp_path / 'stopped') == weights(tmp_path / 'whole')


BUFFERS = [f'layers.1.{name}' for name in ('running_mean', 'running_var', 'num_batches_tracked')]
