"""The optimiser's groups: what the configs ask for, in as few groups as there are settings."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

CONSTRUCTOR = 'detnas_mm.FewGroupsOptimWrapperConstructor'
BIASES = dict(custom_keys={'.bias': dict(lr_mult=2.0, decay_mult=0.0)})
NO_DECAY = dict(norm_decay_mult=0.0, bias_decay_mult=0.0)


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
        nn.Conv2d(8, 8, 3, groups=8, bias=False),
        nn.BatchNorm2d(8),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, 5),
    )


def build(model, paramwise_cfg, **kwargs):
    optimizer = dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4)
    return build_optim_wrapper(model, dict(optimizer=optimizer, paramwise_cfg=paramwise_cfg, **kwargs))


def settings(model, wrapper):
    """(learning rate, weight decay) by name of the parameter."""
    names = {id(param): name for name, param in model.named_parameters()}
    return {
        names[id(param)]: (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for param in group['params']
    }


def test_detection_recipe():
    """Biases, BN's too: twice the learning rate and no weight decay; BN's weights do decay."""
    model = net()
    found = settings(model, build(model, BIASES, constructor=CONSTRUCTOR))
    assert found == {
        name: (0.04, 0.0) if name.endswith('.bias') else (0.02, 1e-4) for name, _ in model.named_parameters()
    }


def test_imagenet_recipe():
    """No weight decay on BN and biases."""
    model = net()
    found = settings(model, build(model, NO_DECAY, constructor=CONSTRUCTOR))
    assert {name for name, (_, decay) in found.items() if decay} == {'0.0.weight', '1.weight', '4.weight'}
    assert {lr for lr, _ in found.values()} == {0.02}


@pytest.mark.parametrize('paramwise_cfg, groups', [(BIASES, 2), (NO_DECAY, 2), (None, 1)])
def test_few_groups_compute_what_many_do(paramwise_cfg, groups):
    results = []
    for constructor in ({}, {'constructor': CONSTRUCTOR}):
        model = net()
        wrapper = build(model, paramwise_cfg, **constructor)
        generator = torch.Generator().manual_seed(1)
        for _ in range(3):
            wrapper.update_params(model(torch.rand(4, 3, 8, 8, generator=generator)).square().mean())
        results.append((model.state_dict(), settings(model, wrapper)))
    (one, many), (other, few) = results
    assert many == few
    assert len(wrapper.optimizer.param_groups) == groups
    assert all(torch.equal(one[key], other[key]) for key in one)
