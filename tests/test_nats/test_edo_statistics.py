"""EDO: large kernels that contain all dilations, and representation errors by three statistics."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from detnas_mm.cost.count import count_macs
from detnas_mm.errors import DetNASError
from detnas_mm.models import without_memory
from detnas_mm.registry import MODELS
from detnas_mm.systems.nats import DilationSpace
from detnas_mm.systems.nats.enlarged import enlarge, taps
from detnas_mm.systems.nats.evaluators import by_group
from detnas_mm.systems.nats.representation import STATISTICS
from tests.test_nats.edo import enlarged_cfg, planted
from tests.test_nats.nets import cfg_of, outputs, relative, rng

GENOTYPES = tuple(itertools.product((1, 2, 3), (1, 2, 3)))
#: stride, conv-groups, own dilation, bias
CONVS = [(1, 1, 1, False), (2, 1, 1, True), (1, 2, 1, True), (2, 4, 1, False), (1, 1, 2, False)]


def large_conv(stride, groups, dilation, bias, seed=0):
    torch.manual_seed(seed)
    conv = nn.Conv2d(4, 8, 3, stride, dilation, dilation, groups, bias)
    enlarge(conv, 3)
    return conv


def lost_by_hand(conv, image, genotype):
    """Of every output channel and position, the sum over all taps that are not kept: in loops, without torch."""
    weight, x = conv.weight.detach().double().numpy(), image.double().numpy()
    stride, own, middle = conv.stride[0], conv.dilation[0], conv.kernel_size[0] // 2
    kept = {(middle + i * genotype[0], middle + j * genotype[1]) for i in (-1, 0, 1) for j in (-1, 0, 1)}
    height, width = (-(-side // stride) for side in x.shape[1:])
    per_group = conv.out_channels // conv.groups
    out = np.zeros((conv.out_channels, height, width))
    for channel, row, column in np.ndindex(out.shape):
        first = channel // per_group * weight.shape[1]
        for i, u, v in np.ndindex(weight.shape[1:]):
            y, z = row * stride + (u - middle) * own, column * stride + (v - middle) * own
            if (u, v) not in kept and 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
                out[channel, row, column] += weight[channel, i, u, v] * x[first + i, y, z]
    return out


def by_hand(statistic, conv, x):
    """Errors by the definitions, shape (channels, genotypes)."""
    columns = []
    for genotype in GENOTYPES:
        if statistic == 'mean_map':
            lost = np.abs(lost_by_hand(conv, x.double().mean(0), genotype)).sum((1, 2))
        elif statistic == 'error':
            lost = np.mean([np.abs(lost_by_hand(conv, image, genotype)).sum((1, 2)) for image in x], axis=0)
        else:
            weight = conv.weight.detach().double().clone()
            middle = conv.kernel_size[0] // 2
            for i, j in itertools.product((-1, 0, 1), repeat=2):
                weight[:, :, middle + i * genotype[0], middle + j * genotype[1]] = 0
            means = x.double().mean((0, 2, 3))
            per_group = conv.out_channels // conv.groups
            inputs = weight.shape[1]
            firsts = [channel // per_group * inputs for channel in range(len(weight))]
            lost = [abs(means[i : i + inputs] @ kernel.sum((1, 2))) for i, kernel in zip(firsts, weight, strict=True)]
        columns.append(np.array(lost, dtype=float))
    return np.stack(columns, 1)


@pytest.mark.parametrize('statistic', STATISTICS)
@pytest.mark.parametrize('settings', CONVS)
@torch.no_grad()
def test_statistics_are_their_definitions(statistic, settings):
    conv = large_conv(*settings)
    x = torch.rand(3, 4, 7, 6, generator=torch.Generator().manual_seed(1))
    found = STATISTICS[statistic]('conv', conv, GENOTYPES)
    for part in (x[:2], x[2:]):  # batches of several sizes
        found.add(part, conv(part))
    np.testing.assert_allclose(found.errors(), by_hand(statistic, conv, x), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_statistics_differ_from_one_another():
    """Positions, borders and single images count: else two of the tests above would test the same."""
    conv = large_conv(1, 1, 1, False)
    x = torch.randn(3, 4, 7, 6, generator=torch.Generator().manual_seed(1))
    errors = {}
    for name, kind in STATISTICS.items():
        found = kind('conv', conv, GENOTYPES)
        found.add(x, conv(x))
        errors[name] = found.errors() / found.errors().mean()
    for one, other in itertools.combinations(errors.values(), 2):
        assert np.abs(one - other).max() > 0.2


def test_a_groups_error_is_the_sum_over_its_channels():
    errors = rng().random((12, 5))
    whole = by_group(errors, (1, 2, 3), 2)  # six conv-groups of two channels
    np.testing.assert_allclose(whole, [errors[:2].sum(0), errors[2:6].sum(0), errors[6:].sum(0)])


# -- the supernet ---------------------------------------------------------------------------------------------------


NAMES = ['resnet_pytorch', 'resnet_caffe', 'resnext', 'regnet', 'res2net', 'basic_blocks', 'depthwise', 'dilated_c5']


@pytest.mark.parametrize('name', NAMES)
def test_enlarged_backbones_are_the_plain_class_with_larger_kernels(name):
    plain, net = MODELS.build(cfg_of(name)), MODELS.build(enlarged_cfg(name, d_max=2))
    table = {conv.name for conv in DilationSpace(cfg_of(name), preset='ic-conv').convs}
    assert type(net) is type(plain) and table
    ours, theirs = net.state_dict(), plain.state_dict()
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        larger = (5, 5) if key.removesuffix('.weight') in table else value.shape[2:]
        assert ours[key].shape == (*value.shape[:2], *larger)
    frozen = [[key for key, value in one.named_parameters() if not value.requires_grad] for one in (net, plain)]
    assert frozen[0] == frozen[1]
    with pytest.raises(RuntimeError, match='size mismatch'):
        net.load_state_dict(theirs)


@pytest.mark.parametrize('name', NAMES)
def test_a_large_kernel_with_nine_taps_is_the_dilated_convolution(name):
    """With zeros elsewhere the supernet computes what the net with these dilations does: sizes and padding agree."""
    large, fixed, _, _ = planted(name, 3)
    assert relative(outputs(large), outputs(fixed)) < 2e-5
    key = next(key for key, value in large.named_parameters() if value.shape[2:] == (7, 7))
    with torch.no_grad():
        large.get_parameter(key).add_(1e-2)
    assert relative(outputs(large), outputs(fixed)) > 1e-4


def test_taps_are_taken_around_the_middle_of_the_kernel():
    weight = torch.arange(49.0).view(1, 1, 7, 7)
    assert taps(weight, (1, 3)).flatten().tolist() == [14, 17, 20, 21, 24, 27, 28, 31, 34]


@pytest.mark.parametrize(('depth', 'plain', 'large', 'times'), [(50, 4.09, 18.88, 4.6), (101, 7.80, 38.32, 4.9)])
def test_multiply_adds_of_large_kernels(depth, plain, large, times):
    """Checks the figures about EDO's cost in docs/nats.md."""
    cfg = dict(type='mmpretrain.ResNet', depth=depth)
    macs = []
    for one in (cfg, dict(cfg, type='detnas_mm.EnlargedBackbone', plain=cfg['type'], d_max=4)):
        with without_memory():
            net = MODELS.build(one)
        macs.append(count_macs(net))
    assert [round(one / 1e9, 2) for one in macs] == [plain, large] and round(macs[1] / macs[0], 1) == times


def test_initial_weights_are_of_the_plain_initialisers():
    torch.manual_seed(0)
    net = MODELS.build(enlarged_cfg('resnet_pytorch', d_max=4))
    drawn = net.layer4[0].conv2.weight.std().item()
    net.init_weights()
    std = net.layer4[0].conv2.weight.std().item()
    assert std == pytest.approx((2 / (64 * 81)) ** 0.5, rel=0.05) and std != pytest.approx(drawn, rel=0.1)
    assert all(module.weight.eq(0).all() for name, module in net.named_modules() if name.endswith('bn3'))


@pytest.mark.parametrize('d_max', [0, 1.5, None])
def test_kernels_of_no_size_are_refused(d_max):
    with pytest.raises(DetNASError, match=r'model\.backbone\.d_max must be a whole number of at least 1'):
        MODELS.build(enlarged_cfg('resnet_caffe', d_max=d_max))
