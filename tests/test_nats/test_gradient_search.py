"""Weights and α take turns: what is stepped when, by which optimiser, and what is exported in the end."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from detnas_mm.engine import launch
from detnas_mm.engine.hooks import EpochSeedHook, seed_hook
from detnas_mm.errors import DetNASError
from detnas_mm.models import build_model
from detnas_mm.systems.nats import DilationSpace
from detnas_mm.systems.nats.loops import AlternatingTrainLoop
from detnas_mm.systems.nats.optim import AlphaOptimWrapperConstructor, alpha_entropy, alphas, short_schedule
from detnas_mm.systems.nats.pictures import genotypes_figure
from tests.test_nats.gradient import ADAM, PLAIN, SPACE, Noise, Tiny, config, found, loader


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv('TQDM_DISABLE', '1')


def search(folder, **settings):
    """Searches in this process and returns the Runner."""
    cfg = config(folder, workers=0, **settings)
    cfg.custom_hooks.append(dict(type='Noted'))
    made, runners = launch.build_runner, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, 'build_runner', lambda *args: runners.append(made(*args)) or runners[-1])
        launch.run(cfg)
    return runners[0]


def hook(runner, name):
    return next(one for one in runner.hooks if type(one).__name__ == name)


# -- two optimisers ------------------------------------------------------------------------------------------------


def supernet(**settings):
    backbone = dict(PLAIN, type='detnas_mm.DilatedSupernet', plain=PLAIN['type'], mixture=True, space=SPACE)
    return build_model(Config(dict(model=dict(type='Tiny', backbone=backbone | settings))))


@pytest.mark.parametrize('paramwise', [None, dict(norm_decay_mult=0.0), dict(custom_keys=dict(alpha=dict(lr_mult=9)))])
def test_each_optimiser_has_its_own(paramwise):
    model = supernet(frozen_stages=1)
    wrapper = dict(optimizer=dict(type='SGD', lr=0.1, weight_decay=0.1), alpha=dict(optimizer=dict(ADAM)))
    both = AlphaOptimWrapperConstructor(wrapper, paramwise)(model)
    assert list(both.keys()) == ['weights', 'alpha']
    weights, alpha = (
        [id(one) for group in both[key].optimizer.param_groups for one in group['params']]
        for key in ('weights', 'alpha')
    )
    names = {id(one): name for name, one in model.named_parameters() if one.requires_grad}
    assert sorted(weights + alpha) == sorted(names) and not set(weights) & set(alpha)
    assert {names[one] for one in alpha} == set(alphas(model)) and len(alpha) == 12
    (group,) = both['alpha'].optimizer.param_groups
    assert {key: group[key] for key in ('lr', 'betas', 'weight_decay')} == {
        key: ADAM[key] for key in ('lr', 'betas', 'weight_decay')
    }
    groups = both['weights'].optimizer.param_groups
    spared = {0.0} if 'norm_decay_mult' in (paramwise or {}) else set()
    assert {group['weight_decay'] for group in groups} == {0.1} | spared
    assert {group['lr'] for group in groups} == {0.1}


@OPTIM_WRAPPERS.register_module(force=True)
class ScaledOptimWrapper(OptimWrapper):
    """Takes what mixed precision takes, on a CPU."""

    def __init__(self, loss_scale=None, **kwargs):
        super().__init__(**kwargs)
        self.loss_scale = loss_scale


def test_what_a_tool_sets_reaches_both():
    """--amp sets type and loss_scale of optim_wrapper; clipping is the weights' alone."""
    wrapper = dict(
        type='ScaledOptimWrapper', loss_scale='dynamic', accumulative_counts=3, clip_grad=dict(max_norm=5),
        optimizer=dict(type='SGD', lr=0.1), alpha=dict(optimizer=dict(ADAM)),
    )  # fmt: skip
    both = AlphaOptimWrapperConstructor(wrapper)(supernet())
    for one in both.values():
        assert type(one) is ScaledOptimWrapper and one.loss_scale == 'dynamic' and one._accumulative_counts == 3
    assert both['weights'].clip_grad_kwargs == dict(max_norm=5) and both['alpha'].clip_grad_kwargs is None
    wrapper['alpha'] |= dict(accumulative_counts=2, clip_grad=dict(max_norm=1))
    alpha = AlphaOptimWrapperConstructor(wrapper)(supernet())['alpha']
    assert alpha._accumulative_counts == 2 and alpha.clip_grad_kwargs == dict(max_norm=1)


# -- taking turns ---------------------------------------------------------------------------------------------------


def test_steps_are_those_of_a_loop_by_hand(tmp_path, monkeypatch):
    """First order: α's gradient is taken at the weights that have just been stepped. Equal to the bit."""
    seen, forward = [], Tiny.forward

    def watched(self, inputs, labels=None, mode='tensor'):
        seen.append((inputs.clone(), labels.clone()))
        return forward(self, inputs, labels, mode)

    monkeypatch.setattr(Tiny, 'forward', watched)
    start = []
    monkeypatch.setattr(launch, 'build_runner', _starting(launch.build_runner, start))
    runner = search(tmp_path, norm_eval=True, augmented=False, loop=dict(max_epochs=2, alpha_from=1))
    monkeypatch.undo()
    (model,) = start
    model.train()
    found_alphas = list(alphas(model).values())
    own = {id(one) for one in found_alphas}
    weights = [one for one in model.parameters() if id(one) not in own]
    optimisers = (
        torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=0.1),
        torch.optim.Adam(found_alphas, **{key: value for key, value in ADAM.items() if key != 'type'}),
    )
    turns = 'www' + 'wawawa'
    assert len(seen) == len(turns)
    for number, ((inputs, labels), turn) in enumerate(zip(seen, turns, strict=True)):
        optimiser = optimisers['wa'.index(turn)]
        model.zero_grad()
        model(inputs, labels, mode='loss')['loss'].backward()
        optimiser.step()
        if number == 2:
            optimisers[0].param_groups[0]['lr'] *= 0.7
    expected = model.state_dict()
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert all(one.abs().max() > 0.005 for one in found_alphas)
    images = {Noise(first=100, size=8, augmented=False)[i]['inputs'].sum().item() for i in range(8)}
    of_alpha = {
        one.sum().item() for (inputs, _), turn in zip(seen, turns, strict=True) if turn == 'a' for one in inputs
    }
    assert of_alpha == images, 'α is trained on its own images'


def _starting(made, start):
    def make(*args):
        runner = made(*args)
        load = runner.load_or_resume
        runner.load_or_resume = lambda: (load(), start.append(copy.deepcopy(runner.model)))
        return runner

    return make


def test_alpha_waits_without_losing_its_gradient(tmp_path):
    notes = hook(search(tmp_path, loop=dict(alpha_from=2)), 'Noted')
    zero = [not one.any() for one in notes.alpha]
    assert zero == [True] * 6 + [False] * 3
    assert all(notes.trainable) and not any(notes.left)
    moved = [not torch.equal(a, b) for a, b in zip(notes.alpha, notes.alpha[1:])]
    assert moved == [False] * 5 + [True] * 3


@pytest.mark.slow
def test_accumulated_batches_equal_a_large_one(tmp_path, monkeypatch):
    """Both halves; if gradients of the other half's parameters were not zeroed, they would not."""
    settings = dict(norm_eval=True, augmented=False, loop=dict(alpha_from=0, max_epochs=2))
    once = search(tmp_path / 'once', **settings)
    small = {
        'train_dataloader.batch_size': 2,
        'train_cfg.alpha_dataloader.batch_size': 2,
        'optim_wrapper.accumulative_counts': 2,
    }
    for zeroed in (True, False):
        if not zeroed:
            monkeypatch.setattr(Tiny, 'zero_grad', lambda self: None)
        twice = search(tmp_path / f'twice{zeroed}', **settings, **small)
        difference = max(
            float((a - b).detach().abs().max())
            for a, b in zip(once.model.parameters(), twice.model.parameters(), strict=True)
        )
        assert (difference < 1e-5) == zeroed, difference


def test_what_is_left_at_the_end_of_an_epoch_is_a_step_too(tmp_path):
    """Five batches, two of them a step: three steps of either, and the last one takes one batch of the weights'."""
    cfg = {
        'train_dataloader.dataset.size': 10,
        'train_dataloader.batch_size': 2,
        'train_cfg.alpha_dataloader.batch_size': 2,
        'optim_wrapper.accumulative_counts': 2,
    }
    runner = search(tmp_path, loop=dict(max_epochs=2, alpha_from=1), augmented=False, **cfg)
    notes = hook(runner, 'Noted')
    assert len(notes.conv1) == 10
    steps = [not torch.equal(a, b) for a, b in zip(notes.conv1, notes.conv1[1:])]
    assert steps == [True, False, True, True] + [False, True] + [False, True, True]
    states = runner.optim_wrapper['alpha'].optimizer.state.values()
    assert {int(state['step']) for state in states} == {3}
    assert notes.left == [True, False, True, False, False] * 2


@pytest.mark.parametrize(('kind', 'warned'), [(AlternatingTrainLoop, 0), (EpochBasedTrainLoop, 1)])
def test_only_gradients_that_cross_epochs_are_warned_of(kind, warned, monkeypatch):
    """Five batches, two of them a step: see the test before; mmengine's loop keeps the fifth for the next epoch."""
    monkeypatch.setattr(seed_hook, 'get_world_size', lambda: 2)  # one process alone would keep them in the checkpoint
    loop, lines = object.__new__(kind), []
    loop.dataloader = range(5)
    wrappers = OptimWrapperDict(
        **{
            name: OptimWrapper(torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1), accumulative_counts=2)
            for name in ('weights', 'alpha')
        }
    )
    logger = SimpleNamespace(warning=lines.append)
    EpochSeedHook().before_train(SimpleNamespace(train_loop=loop, hooks=[], optim_wrapper=wrappers, logger=logger))
    assert len(lines) == warned


@pytest.mark.slow
def test_alphas_loader_begins_again_when_it_is_through(tmp_path, monkeypatch):
    """Each epoch and each pass in another order, the same when the search is repeated."""

    def of_alpha(folder):
        seen, forward = [], Tiny.forward
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                Tiny,
                'forward',
                lambda self, inputs, *args, **kw: seen.append(inputs) or forward(self, inputs, *args, **kw),
            )
            search(folder, loop=dict(alpha_from=0, alpha_dataloader=loader(workers=0, size=4, first=100, batch_size=2)))
        return [one.flatten(1).sum(1).tolist() for one in seen[1::2]]

    first = of_alpha(tmp_path / 'first')
    assert len(first) == 9 and first == of_alpha(tmp_path / 'again')
    assert len({value for batch in first for value in batch}) == 18, 'every pass has augmentation of its own'


# -- what is exported -----------------------------------------------------------------------------------------------


def test_frozen_bn_is_exported_untouched(tmp_path):
    runner = search(tmp_path, norm_eval=True)
    rows, best, weights = found(tmp_path)
    expected = {key: value.tolist() for key, value in runner.model.state_dict().items() if not key.endswith('.alpha')}
    assert weights == expected
    assert best['batch_norm'] == '20 layers frozen in training, untouched'
    meta = torch.load(tmp_path / best['checkpoint'], weights_only=True)['meta']
    assert meta['batch_norm'] == best['batch_norm'] and meta['arch'] == rows[-1]['arch']


def test_trained_bn_is_recalibrated_for_the_found_net(tmp_path):
    """By definition: the found net in training mode, the plain mean over batches."""
    data = loader(workers=0, size=8, first=100, augmented=False)
    calibration = dict(dataloader={key: data[key] for key in ('batch_size', 'dataset', 'collate_fn')}, num_images=8)
    runner = search(tmp_path / 'recalibrated', hook=dict(calibration=calibration))
    _, best, weights = found(tmp_path / 'recalibrated')
    assert best['batch_norm'] == '20 layers recalibrated for the found net on 8 images'
    net = build_model(Config.fromfile(tmp_path / 'recalibrated' / best['config']))
    net.load_state_dict(torch.load(tmp_path / 'recalibrated' / best['checkpoint'])['state_dict'])
    norms = {name: one for name, one in net.named_modules() if isinstance(one, nn.BatchNorm2d)}
    for one in norms.values():
        one.reset_running_stats()
        one.momentum = None
    net.train()
    calibrated = hook(runner, 'NATSSearchHook')._calibration
    images = Noise(first=100, size=8, augmented=False)
    for first in (0, 4):
        net(torch.stack([images[index]['inputs'] for index in calibrated.indices[first : first + 4]]))
    for name, one in norms.items():
        assert torch.allclose(torch.tensor(weights[f'{name}.running_mean']), one.running_mean, atol=1e-5)
        assert torch.allclose(torch.tensor(weights[f'{name}.running_var']), one.running_var, rtol=1e-4)
    search(tmp_path / 'as_trained')
    _, as_trained, other = found(tmp_path / 'as_trained')
    assert as_trained['batch_norm'] == '20 layers as trained with all genotypes mixed'
    assert other['backbone.bn1.running_mean'] != weights['backbone.bn1.running_mean']
    assert other['backbone.bn1.weight'] == weights['backbone.bn1.weight']


def test_a_diverged_alpha_is_not_decoded():
    """The largest of several NaN would be the first: a diverged search would find the plain net."""
    model = supernet()
    model.backbone.layer3[1].conv1.alpha.data[1, 2] = float('nan')
    with pytest.raises(DetNASError, match=r'^α of layer3\.1\.conv1 is NaN, .* diverged'):
        model.backbone.decode()


@pytest.mark.parametrize('named', [True, False])
def test_schedules_of_a_shorter_training_are_warned_of(named):
    """As of mmdet's detectors of 12 epochs: α would be trained beside weights that hardly move."""
    warm, steps = dict(type='LinearLR', by_epoch=False, end=500), dict(type='MultiStepLR', milestones=[8, 11], end=12)
    cosine = dict(type='mmengine.CosineAnnealingLR', T_max=25, by_epoch=True)

    def line(*schedulers):
        return short_schedule(dict(weights=list(schedulers), alpha=[]) if named else list(schedulers), 25)

    assert line(warm, steps).startswith('param_scheduler: MultiStepLR of the weights ends after epoch 12 of 25')
    for fine in ([warm, cosine], [warm, dict(cosine, end=25)], [dict(warm, by_epoch=True, end=5), cosine], [warm], []):
        assert line(*fine) == ''
    assert line(dict(warm, by_epoch=True, end=5), dict(type='CosineAnnealingLR', by_epoch=False)) == ''
    assert short_schedule(None, 25) == ''


def test_entropy_of_alpha():
    model = supernet()
    assert alpha_entropy(model) == 1
    for one in alphas(model).values():
        one.data[:, 1] = 1e4
    assert alpha_entropy(model) == 0
    for one in list(alphas(model).values())[:6]:
        one.data.zero_()
    assert alpha_entropy(model) == pytest.approx(0.5)


@pytest.mark.parametrize('largest', [2, 3, 4, 6])
def test_no_two_genotypes_look_alike(largest):
    space = DilationSpace(convs=[('layer1.0.conv2', 64, 1, 'layer1')], genotypes=largest, groups=largest**2)
    (axis,) = genotypes_figure(space, [space.parse(range(largest**2))]).get_axes()
    colours = np.array([bars[0].get_facecolor()[:3] for bars in axis.containers])
    differences = np.abs(colours[:, None] - colours[None]).max(2)
    assert differences[~np.eye(len(colours), dtype=bool)].min() > 0.03


def test_the_picture_shows_shares():
    space = supernet().backbone.space
    plain = space.parse([0] * len(space.choices))
    mixed = space.parse([0, 1] + [2] * (len(space.choices) - 2))
    figure = genotypes_figure(space, [plain, mixed])
    upper, *stages = figure.get_axes()
    heights = {bars.get_label(): [bar.get_height() for bar in bars] for bars in upper.containers}
    assert list(heights) == ['1x1', '2x2', '1x3']
    assert [values[0] for values in heights.values()] == [0.5, 0.5, 0] and heights['1x3'][1:] == [1.0] * 11
    assert [axis.get_title(loc='left') for axis in stages] == ['layer2', 'layer3', 'layer4']
    first = [[bar.get_height() for bar in bars] for bars in stages[0].containers]
    assert first == [[1.0, 0.125], [0.0, 0.125], [0.0, 0.75]]
    (alone,) = genotypes_figure(space, [mixed]).get_axes()  # nothing over time
    assert [[bar.get_height() for bar in bars] for bars in alone.containers] == [
        [bar.get_height() for bar in bars] for bars in upper.containers
    ]
