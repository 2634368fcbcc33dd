"""Trainings by iteration that are killed at any moment and resumed end with the bits of one that was never killed."""

import pytest
import torch
from mmdet.datasets.samplers import AspectRatioBatchSampler
from mmengine.dataset import DefaultSampler, InfiniteSampler

from detnas_mm.engine import IterationSeedHook
from detnas_mm.engine.runner import NamedRunner
from detnas_mm.engine.seeding import SeededPasses
from detnas_mm.errors import DetNASError
from tests.test_engine.seeded_training import config, final, in_process
from tests.test_engine.test_seed_hook import SAMPLERS, Noise, loader


def by_iteration(kill=None, hook=True):
    """Settings of a training of seven iterations, more than two passes, with a checkpoint at every second one."""
    hooks = [dict(type='detnas_mm.IterationSeedHook')] if hook else []
    hooks += [dict(type='Killed', what='iteration', number=kill)] if kill is not None else []
    return dict(
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=7),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2, max_keep_ckpts=1)),
        param_scheduler=[dict(type='ExponentialLR', gamma=0.8, by_epoch=False)],
        custom_hooks=hooks,
    )


@pytest.fixture(scope='module')
def never_killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    assert in_process(folder, **by_iteration()) == 0
    return final(folder)


@pytest.mark.slow
@pytest.mark.parametrize('kill, workers', [(0, 2), (2, 0), (5, 2), (6, 1)])
def test_killed_and_resumed_it_ends_the_same(tmp_path, never_killed, kill, workers):
    assert in_process(tmp_path, workers=workers, **by_iteration(kill)) == -9
    assert in_process(tmp_path, workers=workers, **by_iteration()) == 0
    assert final(tmp_path) == never_killed


@pytest.mark.slow
def test_without_the_hook_it_ends_otherwise(tmp_path):
    """Shows that the test above can fail."""
    assert in_process(tmp_path / 'whole', **by_iteration(hook=False)) == 0
    assert in_process(tmp_path / 'killed', **by_iteration(5, hook=False)) == -9
    assert in_process(tmp_path / 'killed', **by_iteration(hook=False)) == 0
    assert final(tmp_path / 'whole') != final(tmp_path / 'killed')


class Counted(Noise):
    """Counts what is loaded."""

    loaded = 0

    def __getitem__(self, index):
        self.loaded += 1
        return super().__getitem__(index)


@pytest.mark.parametrize('sampler', SAMPLERS)
@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('skipped', [1, 3, 5])
def test_skipped_batches_are_those_that_would_have_come(sampler, workers, skipped):
    def batches(count, skip=0):
        passes = SeededPasses(loader(workers, sampler=sampler), 0)
        if skip:
            passes.skip_iter(skip)
        return [next(passes).tolist() for _ in range(count)]

    whole = batches(8)
    assert batches(8 - skipped, skipped) == whole[skipped:]
    assert len({number for batch in whole for item in batch for number in item[1:]}) == 3 * sum(map(len, whole))


class Shapes(Noise):
    """Images that are wider than high, but for every third one."""

    def get_data_info(self, index):
        return dict(width=2, height=3 if index % 3 == 0 else 1)


@pytest.mark.parametrize('sampler', [InfiniteSampler, DefaultSampler])
@pytest.mark.parametrize('skipped', [1, 2, 5, 9])
def test_batches_of_equal_shape_are_those_that_would_have_come(sampler, skipped):
    """COCO's and VOC's configs have them: a resumed training would see images of one shape alone."""

    def batches(count, skip=0):
        drawn = AspectRatioBatchSampler(sampler(Shapes(), shuffle=True, seed=3), 4)
        passes = SeededPasses(torch.utils.data.DataLoader(Shapes(), batch_sampler=drawn), 0)
        if skip:
            passes.skip_iter(skip)
        return [next(passes).tolist() for _ in range(count)]

    assert batches(20 - skipped, skipped) == batches(20)[skipped:]


def test_nothing_is_loaded_for_what_is_skipped():
    data = Counted()
    passes = SeededPasses(torch.utils.data.DataLoader(data, batch_size=5), 0)
    passes.skip_iter(7)
    assert data.loaded == 0
    next(passes)
    assert data.loaded == 5


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(randomness=dict(seed=None)), 'IterationSeedHook: randomness.seed is None'),
        (dict(train_cfg=dict(by_epoch=True, max_epochs=1)), 'a EpochBasedTrainLoop: use detnas_mm.EpochSeedHook'),
        (
            dict(default_hooks=dict(checkpoint=dict(type='CheckpointHook', save_param_scheduler=False))),
            'whole checkpoints by iteration; set by_epoch=False, save_param_scheduler=True',
        ),
    ],
)
def test_a_training_that_cannot_resume_to_the_bit_is_refused(tmp_path, change, message):
    cfg = config(tmp_path, workers=0, **(by_iteration() | change))
    cfg.experiment_name = tmp_path.name
    with pytest.raises(DetNASError, match=message):
        NamedRunner.from_cfg(cfg).train()


def test_a_seed_must_be_a_whole_number():
    with pytest.raises(DetNASError, match="IterationSeedHook.seed must be a whole number of at least 0; got '1'"):
        IterationSeedHook(seed='1')
