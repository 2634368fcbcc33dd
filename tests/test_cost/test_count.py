"""The tables agree to the last unit with counting on the built network."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from detnas_mm.cost.count import count_macs, count_params
from detnas_mm.systems.detnas import DetNASNet, DetNASSpace, DetNASSupernet, MacsTable, ParamsTable

CUSTOM = dict(stem=6, channels=(10, 24, 32), blocks=(2, 1, 3), last=40)


@pytest.mark.parametrize(
    ('spec', 'sizes'),
    [
        ('small', [(224, 224), (97, 131)]),
        ('large', [(224, 224), (800, 1333)]),
        ('large-3.8g', [(129, 64)]),
        (CUSTOM, [(32, 32), (1, 1), (33, 65), (50, 7)]),
    ],
)
def test_tables_equal_counting(spec, sizes):
    space = DetNASSpace(spec)
    params = ParamsTable(space)
    for seed, size in enumerate(sizes * 2):
        arch = space.sample(np.random.default_rng(seed))
        with torch.device('meta'):
            net = DetNASNet(arch, space=space)
        assert MacsTable.build(space, size).total(arch) == count_macs(net, size)
        assert params.total(arch) == count_params(net)


def test_table_with_classifier_equals_counting():
    space = DetNASSpace(CUSTOM)
    arch = space.parse('01|2|312')
    net = DetNASNet(arch, space=space, out_indices=(), with_last_conv=True)

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.fc = net, nn.Linear(40, 7)

        def forward(self, x):
            return self.fc(self.backbone(x)[0].mean((2, 3)))

    assert MacsTable(space, 48, with_classifier=7).total(arch) == count_macs(Classifier(), 48, with_linear=True)
    assert count_macs(Classifier(), 48, with_linear=True) - count_macs(Classifier(), 48) == 40 * 7


def test_a_supernet_is_counted_on_its_path():
    net = DetNASSupernet(CUSTOM)
    table = MacsTable(CUSTOM, 32)
    for path in ('00|0|000', '31|2|123'):
        net.set_path(path)
        assert count_macs(net, 32) == table.total(net.active_path)


def test_counting_itself():
    # By hand: 8x6 outputs of 10 channels from 3x3 windows of 3/1 inputs, then twice a 1x1 from 10 to 10 in 2 groups.
    shared = nn.Conv2d(10, 10, 1, groups=2)
    net = nn.Sequential(nn.Conv2d(3, 10, 3, padding=1, bias=True), nn.BatchNorm2d(10), shared, shared)
    assert count_macs(net, (8, 6)) == 48 * 10 * 27 + 2 * 48 * 10 * 5
    assert count_params(net) == 280 + 20 + 60


class SeveralDilations(nn.Conv2d):
    """Computes each third of its outputs with another dilation, with the weights of that third."""

    def _conv_forward(self, input, weight, bias):
        return torch.cat(
            [F.conv2d(input, part, None, 1, d, d) for d, part in enumerate(weight.chunk(3), start=1)], dim=1
        )


class Thrice(nn.Module):
    """The same weight three times: as it is, in groups, and a part of it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(6, 4, 3, 3))

    def forward(self, x):
        whole = F.conv2d(x, self.weight, padding=1)
        groups = F.conv2d(whole, self.weight[:, :2], padding='same', dilation=2, groups=3)
        return F.conv2d(groups, self.weight[:5, :3].repeat(1, 2, 1, 1), stride=2)


def test_operators_are_counted_not_modules():
    one = nn.Conv2d(4, 6, 3, padding=1)
    assert count_macs(SeveralDilations(4, 6, 3), 8, in_channels=4) == count_macs(one, 8, in_channels=4) == 64 * 6 * 36
    # 8x8 outputs of 6 from 4 channels, then from 2 in each group, then 3x3 outputs of 5 from 6 channels
    assert count_macs(Thrice(), 8, in_channels=4) == 64 * 6 * 4 * 9 + 64 * 6 * 2 * 9 + 9 * 5 * 6 * 9


def test_a_transposed_convolution_counts_by_its_input():
    """By hand: each of 4x4 inputs of 6 channels is multiplied by 5x5 weights of 3 outputs, those of its group."""
    net = nn.ConvTranspose2d(6, 9, 5, stride=2, groups=3)
    assert count_macs(net, 4, in_channels=6) == 16 * 6 * 3 * 25


@pytest.mark.parametrize('bias', [True, False])
def test_linear_layers_are_counted_and_attention_is_not(bias):
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 6, bias), nn.Linear(6, 5, bias)

        def forward(self, x):
            tokens = self.first(x.flatten(2).transpose(1, 2))  # (1, h·w, c), not contiguous
            weights = (tokens @ tokens.transpose(1, 2)).softmax(-1)
            return self.second((weights @ tokens).mean(1))

    assert count_macs(Tokens(), 3, with_linear=True, in_channels=4) == 9 * 4 * 6 + 6 * 5
    assert count_macs(Tokens(), 3, in_channels=4) == 0


@pytest.mark.parametrize('inference', [False, True])
def test_layers_of_computed_weights_are_counted(inference):
    """Weights that are divided by their norm, such as those of mmdet's NormedLinear, lie in other storages."""

    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.weight = nn.Conv2d(3, 4, 3, padding=1), nn.Parameter(torch.ones(5, 4))
            self.linear = nn.utils.parametrizations.weight_norm(nn.Linear(4, 6))

        def forward(self, x):
            x = self.conv(x).mean((2, 3))
            attention = x @ x.T  # not a layer
            return (
                attention,
                nn.functional.linear(x, self.weight / self.weight.norm(dim=1, keepdim=True)),
                self.linear(x),
            )

    with torch.inference_mode(inference):  # torch then hides the operators that composite ones consist of
        assert count_macs(Normed(), 8, with_linear=True, in_channels=3) == 64 * 27 * 4 + 4 * 5 + 4 * 6


def test_counting_leaves_the_net_as_it_was(randomise_bn):
    net = DetNASNet('01|2|312', space=CUSTOM, frozen_stages=1).train()
    randomise_bn(net)
    modes = {name: module.training for name, module in net.named_modules()}
    tensors = {key: (value, value.clone()) for key, value in net.state_dict(keep_vars=True).items()}
    count_macs(net, 33)
    assert {name: module.training for name, module in net.named_modules()} == modes
    for key, value in net.state_dict(keep_vars=True).items():
        assert value is tensors[key][0] and torch.equal(value, tensors[key][1]), key
    assert not any(module._forward_hooks for module in net.modules())


@pytest.fixture
def randomise_bn():
    def run(net):
        for key, value in net.state_dict().items():
            if 'running' in key:
                value.uniform_(0.5, 1.5)

    return run
