"""Dilated nets and supernets compute what they say, on backbones of many kinds; weights keep their keys."""

import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from detnas_mm.cost.count import count_macs, count_params
from detnas_mm.errors import DetNASError
from detnas_mm.models import without_memory
from detnas_mm.models.subnet import extract_subnet
from detnas_mm.registry import MODELS
from detnas_mm.systems.nats import DilatedConv2d, DilationSpace, MixedConv2d
from tests.test_nats.nets import BACKBONES, build, cfg_of, images, outputs, randomize, relative, rng

NAMES = list(BACKBONES)


def supernet_cfg(name, space='nats', **settings):
    cfg = cfg_of(name)
    return dict(cfg, type='detnas_mm.DilatedSupernet', plain=cfg['type'], space=space, **settings)


def dilated_cfg(name, space, arch):
    return space.configure(dict(model=dict(backbone=cfg_of(name))), arch)['model']['backbone']


def supernet(name, **settings):
    """A supernet in evaluation mode with the weights of ``build(cfg_of(name))``."""
    net = MODELS.build(supernet_cfg(name, **settings))
    missing = net.load_state_dict(build(cfg_of(name)).state_dict(), strict=False)
    assert not missing.unexpected_keys and all(key.endswith('.alpha') for key in missing.missing_keys)
    net.eval()
    return net


def put_one_hot(net, arch):
    """Logits 0 and -inf, so that softmax is exactly 1 and 0."""
    for conv, ids in zip(net.searched, net.space.genes(arch), strict=True):
        logits = torch.full_like(conv.alpha, -torch.inf)
        logits[torch.arange(len(ids)), torch.tensor(ids)] = 0
        conv.alpha.data = logits


@pytest.mark.parametrize('name', NAMES)
def test_one_hot_on_plain_dilations_is_the_plain_net_to_the_bit(name):
    plain, net = outputs(build(cfg_of(name))), supernet(name, mixture=True)
    arch = net.space.parse('|'.join(f'{conv.channels}:1x1' for conv in net.space.convs))
    put_one_hot(net, arch)
    assert all(torch.equal(a, b) for a, b in zip(outputs(net), plain, strict=True))
    first = net.searched[0]
    first.alpha.data = first.alpha.data.roll(1, 1)  # another genotype in one convolution is another net
    assert relative(outputs(net), plain) > 1e-3


@pytest.mark.parametrize('name', NAMES)
def test_a_dilated_net_equals_the_one_hot_supernet_and_the_path(name):
    net = supernet(name, mixture=True)
    arch = net.space.sample(rng())
    put_one_hot(net, arch)
    assert net.decode() == arch
    mixed = outputs(net)
    fixed = MODELS.build(dilated_cfg(name, net.space, arch))
    assert set(fixed.state_dict()) == set(build(cfg_of(name)).state_dict())
    fixed.load_state_dict(build(cfg_of(name)).state_dict())
    fixed.eval()
    assert relative(outputs(fixed), mixed) < 1e-6
    net.set_path(arch)
    assert all(torch.equal(a, b) for a, b in zip(outputs(net), outputs(fixed), strict=True))
    genes = list(arch.genes)
    genes[0] = (genes[0] + 1) % net.space.choices[0]
    net.set_path(genes)
    assert relative(outputs(net), mixed) > 1e-4  # the test sees one genotype that is changed


@pytest.mark.parametrize('name', NAMES)
def test_every_channel_has_its_own_dilation_where_it_stood(name):
    """Against convolutions that compute all channels with each dilation, of which each channel takes its own."""
    space = DilationSpace(cfg_of(name), preset='ic-conv', genotypes=3)
    arch = space.sample(rng(1))
    net = randomize(MODELS.build(dilated_cfg(name, space, arch)))
    for conv, dilations in list(zip(space.convs, space.dilations(arch), strict=True))[:3]:
        module = net.get_submodule(conv.name)
        assert type(module) is DilatedConv2d and DilatedConv2d.__bases__ == (torch.nn.Conv2d,)
        x = torch.randn(1, module.in_channels, 12, 14, generator=torch.Generator().manual_seed(0))
        out = module(x)
        for channel in (0, 1, len(dilations) // 2, len(dilations) - 1):
            d_h, d_w = dilations[channel]
            own = tuple(d * base for d, base in zip((d_h, d_w), module.dilation, strict=True))
            whole = torch.nn.functional.conv2d(
                x, module.weight, module.bias, module.stride, own, own, module.groups
            )  # fmt: skip
            torch.testing.assert_close(out[:, channel], whole[:, channel], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', NAMES)
def test_parameters_and_macs_are_the_plain_nets(name):
    space = DilationSpace(cfg_of(name))
    plain, fixed = build(cfg_of(name)), MODELS.build(dilated_cfg(name, space, space.sample(rng())))
    assert count_params(fixed) == count_params(plain)
    assert count_macs(fixed) == count_macs(plain)


def test_initial_weights_are_the_plain_nets_at_one_seed():
    space = DilationSpace(cfg_of('resnet_pytorch'))
    nets = []
    for cfg in (cfg_of('resnet_pytorch'), dilated_cfg('resnet_pytorch', space, space.sample(rng()))):
        torch.manual_seed(3)
        net = MODELS.build(copy.deepcopy(cfg))
        net.init_weights()
        nets.append(net.state_dict())
    assert all(torch.equal(value, nets[1][key]) for key, value in nets[0].items())


def test_mixtures_are_the_weighted_sums_of_outputs():
    """The scaled weights give NATS's equation, and its gradients for weights, inputs and alpha."""
    conv = torch.nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=True).double()
    mixed = copy.deepcopy(conv)
    genotypes = ((1, 1), (2, 2), (1, 3))
    MixedConv2d.of(mixed, genotypes, (2, 3, 3), mixture=True)
    mixed.alpha.data = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = torch.randn(2, 6, 9, 9, dtype=torch.float64, requires_grad=True)
    alpha = mixed.alpha.detach().clone().requires_grad_()
    shares = alpha.softmax(1)[[0, 0, 1, 1, 1, 2, 2, 2]]
    whole = sum(
        shares[:, i, None, None] * torch.nn.functional.conv2d(x, conv.weight, conv.bias, 2, genotype, genotype)
        for i, genotype in enumerate(genotypes)
    )
    out = mixed(x)
    torch.testing.assert_close(out, whole)
    ours = torch.autograd.grad(out.square().sum(), [x, mixed.weight, mixed.bias, mixed.alpha])
    theirs = torch.autograd.grad(whole.square().sum(), [x, conv.weight, conv.bias, alpha])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('groups', [1, 4])
def test_negligible_genotypes_are_left_out(groups):
    conv = torch.nn.Conv2d(8, 8, 3, padding=1, groups=groups)
    mixed = copy.deepcopy(conv)
    genotypes = ((1, 1), (2, 2), (3, 3))
    MixedConv2d.of(mixed, genotypes, (2, 2) if groups > 1 else (4, 4), mixture=True)
    mixed.alpha.data = torch.tensor([[9.0, 0.0, -9.0], [0.0, 9.0, -9.0]])
    x = images(8, 12)
    whole = mixed(x)
    mixed.skip_below = 0.01
    torch.testing.assert_close(mixed(x), whole, rtol=0, atol=2e-3)
    assert not torch.equal(mixed(x), whole)
    mixed(x).sum().backward()
    assert torch.isfinite(mixed.alpha.grad).all() and mixed.weight.grad.abs().sum() > 0
    macs = []
    for skip in (0.0, 0.01):
        mixed.skip_below = skip
        with FlopCounterMode(display=False) as counter:
            mixed(x)
        macs.append(counter.get_total_flops())
    assert macs == [3 * macs[1], macs[1]]  # every group runs one genotype of three


@pytest.mark.parametrize('skip_below', [-0.1, 1 / 9, 0.5])
def test_a_limit_that_would_skip_everything_is_refused(skip_below):
    """Each of nine genotypes of the last stage has a weight of 1/9 at first."""
    with pytest.raises(DetNASError, match=rf'skip_below must be at least 0 and below 1/9 = 0\.111.* got {skip_below}'):
        MODELS.build(supernet_cfg('resnet_pytorch', mixture=True, skip_below=skip_below))
    net = MODELS.build(supernet_cfg('resnet_pytorch', mixture=True, skip_below=0.11))
    net.eval()
    assert len(outputs(net)) == 4


def test_a_path_runs_its_own_genotypes_alone():
    name = 'resnet_pytorch'
    net, plain = supernet(name, mixture=True), build(cfg_of(name))
    mixture = count_macs(net)
    net.set_path(net.space.sample(rng()))
    assert count_macs(net) == count_macs(plain) < mixture


def test_multiply_adds_of_a_mixture_are_those_of_all_its_genotypes():
    """The paper's space of a ResNet-50: 4.09 G, and 7.40 G for four or eight further genotypes per convolution."""
    cfg = dict(type='mmdet.ResNet', depth=50)
    with without_memory():
        plain = MODELS.build(cfg)
        net = MODELS.build(
            dict(cfg, type='detnas_mm.DilatedSupernet', plain=cfg['type'], mixture=True, frozen_stages=1)
        )
    one = 64 * 64 * 9 * 56**2  # all 3×3 convolutions of a ResNet-50 have as many multiply-adds
    assert count_macs(net) - count_macs(plain) == one * (10 * 4 + 3 * 8)
    assert round(count_macs(net) / 1e9, 2) == 11.49


@pytest.mark.parametrize('name', NAMES)
def test_segments_make_the_path(name):
    net = supernet(name)
    arch = net.space.sample(rng())
    net.set_path(arch)
    whole, parts, y = outputs(net), [], images()
    net.set_path(None)
    for segment in net.segments(arch):
        with torch.no_grad():
            y = segment.module(y)
        if segment.keep:
            parts += y if isinstance(y, tuple) else [y]
    assert net.active_path is None and all(conv.plan is None for conv in net.searched)
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))
    in_blocks = name not in ('depthwise', 'darknet')
    assert net.runs_in_blocks is in_blocks and (len(net.segments(arch)) > 5) is in_blocks


def test_a_searched_stem_runs_the_path_too():
    """It is no block, so the path is not split there."""
    stages = dict(stages=['stem', 'layer1', 'layer2', 'layer3', 'layer4'], groups=2)
    for mixture in (False, True):
        net = supernet('resnet_caffe', space=stages, mixture=mixture)
        arch = net.space.sample(rng())
        (segment,) = net.segments(arch)
        net.set_path(arch)
        assert all(torch.equal(a, b) for a, b in zip(outputs(net), outputs(segment.module), strict=True))


def test_a_backbone_that_returns_a_single_tensor_cannot_be_cut_into_segments(monkeypatch):
    """Its maps would be the images of the batch."""
    net = supernet('depthwise')
    (segment,) = net.segments(net.space.sample(rng()))
    plain = type(net).__bases__[1]
    forward = plain.forward
    monkeypatch.setattr(plain, 'forward', lambda self, x: forward(self, x)[-1])
    with pytest.raises(DetNASError, match='returns a single tensor; one-shot evaluation needs'):
        segment.module(images())
    assert net.active_path is None


def test_cut_out_nets_load_into_the_plain_class():
    net = supernet('resnext', mixture=True)
    arch = net.space.sample(rng())
    fixed = extract_subnet(net, arch, supernet_cfg('resnext'))
    net.set_path(arch)
    assert all(torch.equal(a, b) for a, b in zip(outputs(net), outputs(fixed), strict=True))
    build(cfg_of('resnext')).load_state_dict(fixed.state_dict())
