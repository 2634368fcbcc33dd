import copy

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import HOOKS, METRICS, MODELS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from detnas_mm.engine import UniformPathSampler
from detnas_mm.errors import DetNASError
from detnas_mm.search import UnmeetableConstraint
from detnas_mm.systems.detnas import DetNASSpace, DetNASSupernet, MacsBinPathSampler, MacsTable

TINY = dict(stem=4, channels=(8, 16), blocks=(1, 1))


@MODELS.register_module(force=True)
class MeanOfFeatures(BaseModel):
    """The least model that trains a supernet."""

    def __init__(self, with_cp=False):
        super().__init__()
        self.backbone = DetNASSupernet(TINY, out_indices=(1,), with_cp=with_cp)

    def forward(self, inputs, data_samples=None, mode='loss'):
        if mode == 'predict':
            self.backbone(inputs.float())
            self.evaluated = self.backbone.active_path.genes
            return [BaseDataElement()]
        return dict(loss=(self.backbone(inputs.float())[0] - 1).square().mean())


class Images(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return dict(inputs=torch.randn(3, 16, 16, generator=generator))


@HOOKS.register_module(force=True)
class Witness(Hook):
    """Notes the path of each iteration, and the state before and after it."""

    priority = 'LOWEST'

    def __init__(self):
        self.paths, self.states = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.paths.append(runner.model.backbone.active_path.genes)
        self.states.append(copy.deepcopy((runner.model.state_dict(), runner.optim_wrapper.state_dict())))


def train(tmp_path, steps=8, accumulate=1, seed=0, resume=False, with_cp=False, sampler=None):
    torch.manual_seed(0)
    runner = Runner(
        MeanOfFeatures(with_cp),
        work_dir=str(tmp_path),
        train_dataloader=dict(
            dataset=Images(), batch_size=4, sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=steps),
        optim_wrapper=dict(
            type='OptimWrapper', accumulative_counts=accumulate,
            optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.1),
        ),
        custom_hooks=[dict(type='detnas_mm.PathSamplingHook', seed=seed, sampler=sampler), dict(type='Witness')],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=4)),
        resume=resume,
        randomness=dict(seed=0),
        experiment_name=f'{tmp_path.name}-{steps}-{accumulate}-{seed}-{with_cp}-{resume}',
        log_level='ERROR',
    )  # fmt: skip
    runner.train()
    witness = next(hook for hook in runner.hooks if isinstance(hook, Witness))
    witness.states.append(copy.deepcopy((runner.model.state_dict(), runner.optim_wrapper.state_dict())))
    return witness, runner


def moved(before, after):
    return {key for key in before if not torch.equal(before[key], after[key])}


def test_what_is_not_on_the_path_does_not_move(tmp_path):
    """Neither weights, nor BN statistics, nor momentum; not by weight decay either."""
    witness, runner = train(tmp_path)
    names = {i: name for i, (name, _) in enumerate(runner.model.named_parameters())}
    assert len(set(witness.paths)) > 4
    for path, (before, optimiser_before), (after, optimiser_after) in zip(
        witness.paths, witness.states, witness.states[1:]
    ):
        idle = {k for k in before if '.blocks.' in k and path[int(k.split('.')[2])] != int(k.split('.')[3])}
        changed = moved(before, after)
        assert idle and not changed & idle
        on_path = {k for k in before if k not in idle}
        assert changed == on_path  # and what is on it does: weights, statistics, counters
        momenta = {names[i]: s['momentum_buffer'] for i, s in optimiser_after['state'].items()}
        momenta_before = {names[i]: s['momentum_buffer'] for i, s in optimiser_before['state'].items()}
        for name in idle & momenta.keys():
            assert torch.equal(momenta[name], momenta_before[name])
    assert runner.model.backbone.active_path is None


def test_one_path_holds_for_one_optimiser_step(tmp_path):
    accumulated = train(tmp_path / 'a', accumulate=3, steps=9)[0]
    plain = train(tmp_path / 'b', steps=3)[0]
    assert accumulated.paths == [path for path in plain.paths for _ in range(3)]


def test_paths_follow_seed_and_iteration_also_after_a_resume(tmp_path):
    whole = train(tmp_path / 'a')[0]
    assert whole.paths == train(tmp_path / 'b')[0].paths
    assert whole.paths != train(tmp_path / 'c', seed=1)[0].paths
    train(tmp_path / 'd', steps=4)
    resumed = train(tmp_path / 'd', steps=8, resume=True)[0]
    assert resumed.paths == whole.paths[4:]
    final, expected = resumed.states[-1][0], whole.states[-1][0]
    assert not moved(final, expected)


def test_checkpointed_activations_train_the_same(tmp_path):
    plain, cp = train(tmp_path / 'a')[0], train(tmp_path / 'b', with_cp=True)[0]
    for (key, value), other in zip(plain.states[-1][0].items(), cp.states[-1][0].values()):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-6, msg=key)


@METRICS.register_module(force=True)
class NoMetric(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return {}


def test_validation_runs_the_path_that_is_named(tmp_path):
    def run(eval_path):
        runner = Runner(
            MeanOfFeatures(),
            work_dir=str(tmp_path),
            test_dataloader=dict(dataset=Images(), batch_size=64, collate_fn=dict(type='default_collate'),
                                 sampler=dict(type='DefaultSampler', shuffle=False)),
            test_cfg=dict(type='TestLoop'),
            test_evaluator=dict(type='NoMetric'),
            custom_hooks=[dict(type='detnas_mm.PathSamplingHook', eval_path=eval_path)],
            experiment_name=f'{tmp_path.name}-{eval_path}',
            log_level='ERROR',
        )  # fmt: skip
        runner.test()
        return runner.model

    model = run('2|3')
    assert model.evaluated == (2, 3) and model.backbone.active_path is None
    with pytest.raises(DetNASError, match='no active path'):
        run(None)
    with pytest.raises(ValueError, match='9'):
        run('2|9')


def test_the_sampler_is_logged(tmp_path):
    runner = train(tmp_path, steps=1)[1]
    runner.logger.setLevel('INFO')
    lines = []
    runner.logger.info = lines.append
    runner.call_hook('before_train')
    assert any('sampled by UniformPathSampler from seed 0' in line for line in lines)


def test_a_model_without_supernet_is_refused(tmp_path):
    from detnas_mm.models import find_supernet

    with pytest.raises(ValueError, match='0 supernets found'):
        find_supernet(torch.nn.Linear(1, 1))


def test_uniform_sampling_is_uniform():
    sampler = UniformPathSampler()
    sampler.setup(DetNASSpace('small'))
    genes = np.array([sampler.sample(0, step).genes for step in range(2000)])
    counts = np.stack([(genes == choice).mean(0) for choice in range(4)])
    assert np.abs(counts - 0.25).max() < 0.05


def test_macs_bins_are_hit_equally_often():
    sampler = MacsBinPathSampler()
    sampler.setup(DetNASSpace('small'))
    table = MacsTable('small', with_classifier=1000)
    macs = np.array([table.total(sampler.sample(0, step)) for step in range(700)])
    assert macs.min() >= 290e6 and macs.max() < 360e6
    counts = np.histogram(macs, bins=7, range=(290e6, 360e6))[0]
    assert counts.min() > 60 and counts.max() < 140
    assert '7 bins' in str(sampler)


@pytest.mark.parametrize('low, high', [(100e6, 200e6), (500e6, 600e6)])
def test_macs_bins_outside_the_space_are_refused(low, high):
    with pytest.raises(UnmeetableConstraint, match='contains no path'):
        MacsBinPathSampler(low, high).setup(DetNASSpace('small'))
