"""Fixed nets, and the options that they share with supernets."""

import pytest
import torch
from torch import nn

from detnas_mm.spaces import Architecture
from detnas_mm.systems.detnas import DetNASNet, DetNASSupernet


def build(kind, space, **kwargs):
    """A net or a supernet with a path, so that tests hold for both."""
    if kind == 'net':
        return DetNASNet('03|12', space=space, **kwargs)
    net = DetNASSupernet(space, **kwargs)
    net.set_path('03|12')
    return net


both = pytest.mark.parametrize('kind', ['net', 'supernet'])


# -- architectures --------------------------------------------------------------------------------------------------


def test_architectures_can_be_given_in_every_form(tiny):
    for arch in ('03|12', '0312', [0, 3, 1, 2], Architecture((0, 3, 1, 2))):
        net = DetNASNet(arch, space=tiny)
        assert net.arch == Architecture((0, 3, 1, 2)) and net.channel_split == 'shuffle'
    assert [len(block.main) for block in net.blocks] == [3, 6, 3, 3]
    assert [block.main[1].conv.kernel_size[0] for block in net.blocks[2:]] == [5, 7]


def test_a_published_name_brings_space_and_channel_split_along():
    with torch.device('meta'):
        net = DetNASNet('coco-fpn-300m')
        assert net.space.name == 'small' and net.channel_split == 'even_odd'
        assert net.space.describe(net.arch) == '2120|2112|33130031|3132'
        assert all(block.channel_split == 'even_odd' for block in net.blocks)
        assert DetNASNet('coco-fpn-300m', channel_split='shuffle').channel_split == 'shuffle'
        assert DetNASNet('2120|2112|33130031|3132').channel_split == 'shuffle'
        assert DetNASNet('coco-fpn-3.8g', with_last_conv=True).last_conv.conv.out_channels == 1728


@pytest.mark.parametrize(
    ('kwargs', 'match'),
    [
        (dict(arch='coco-fpn-3g'), "No published network is named 'coco-fpn-3g'. Names: coco-fpn-300m, "),
        (dict(arch='00|00'), r'stages of \(2, 2\) blocks; this space has \(4, 4, 8, 4\)'),
        (dict(arch='0' * 19), 'has 19 blocks; this space has 20'),
        (dict(arch=[0] * 19 + [4]), r'Block 19 of .* is 4; allowed are 0 \(shuffle_3x3\)'),
        (dict(arch='coco-fpn-300m', space='large'), r'this space has \(8, 8, 16, 8\)'),
        (dict(arch='0' * 20, space='tiny'), "Unknown DetNAS space 'tiny'"),
        (dict(arch='0' * 20, channel_split='half'), r"one of \('shuffle', 'even_odd'\); got 'half'"),
        (dict(arch='0' * 20, out_indices=(0, 4)), r'from 0 \(stride 4\) to 3 \(stride 32\); got \(0, 4\)'),
        (dict(arch='0' * 20, out_indices=(-1,)), r'got \(-1,\)'),
        (dict(arch='0' * 20, out_indices=(1, 0)), r'must be ascending .*got \(1, 0\)'),
        (dict(arch='0' * 20, out_indices=(1, 1)), r'got \(1, 1\)'),
        (dict(arch='0' * 20, out_indices=1.0), r'got \(1.0,\)'),
        (dict(arch='0' * 20, out_indices=('0',)), r"got \('0',\)"),
        (dict(arch='0' * 20, out_indices=()), 'out_indices is empty'),
        (dict(arch='0' * 20, frozen_stages=5), r'must be -1 \(nothing frozen\), 0 \(stem\) or up to 4'),
        (dict(arch='0' * 20, min_loaded=1.5), 'min_loaded must lie between 0 and 1; got 1.5'),
    ],
)
def test_arguments_that_do_not_fit_are_refused(kwargs, match):
    with torch.device('meta'), pytest.raises(ValueError, match=match):
        DetNASNet(**kwargs)


# -- options ---------------------------------------------------------------------------------------------------------


@both
def test_outputs(kind, tiny, images):
    assert [tuple(out.shape) for out in build(kind, tiny, out_indices=(0, 1))(images)] == [
        (2, 8, 9, 12), (2, 16, 5, 6),
    ]  # fmt: skip
    assert [out.shape[1] for out in build(kind, tiny, out_indices=1)(images)] == [16]


@both
def test_last_conv_comes_last(kind, tiny, images):
    net = build(kind, tiny, out_indices=(), with_last_conv=True)
    (out,) = net(images)
    assert out.shape == (2, 24, 5, 6) and net.last_conv.conv.bias is not None
    (dropout,) = (m for m in net.last_conv if isinstance(m, nn.modules.dropout._DropoutNd))
    assert isinstance(dropout, nn.Dropout2d) and dropout.p == 0.2
    both_outs = build(kind, tiny, out_indices=(1,), with_last_conv=True)(images)
    assert [o.shape[1] for o in both_outs] == [16, 24]


@both
@pytest.mark.parametrize('frozen', [-1, 0, 1, 2])
def test_frozen_stages(kind, tiny, frozen):
    net = build(kind, tiny, frozen_stages=frozen).train()
    parts = {0: [net.stem], 1: net.blocks[:2], 2: net.blocks[2:]}
    for stage, modules in parts.items():
        still = stage <= frozen
        for module in modules:
            assert all(p.requires_grad != still for p in module.parameters())
            assert all(m.training != still for m in module.modules() if isinstance(m, nn.BatchNorm2d))


@both
def test_frozen_statistics_do_not_move(kind, tiny, images, randomise):
    net = randomise(build(kind, tiny, frozen_stages=1)).train()
    before = {k: v.clone() for k, v in net.named_buffers()}
    net(images)
    moved = {k for k, v in net.named_buffers() if not torch.equal(v, before[k])}
    assert moved and all(k.startswith(('blocks.2.', 'blocks.3.')) for k in moved)


@both
def test_norm_eval(kind, tiny, images, randomise):
    net = randomise(build(kind, tiny, norm_eval=True, with_last_conv=True)).train()
    before = {k: v.clone() for k, v in net.named_buffers()}
    net(images)
    assert all(torch.equal(v, before[k]) for k, v in net.named_buffers())
    assert net.training and net.last_conv.dropout.training
    assert all(p.requires_grad for p in net.parameters())


@both
def test_norm_cfg(kind, tiny, images):
    net = build(kind, tiny, norm_cfg=dict(type='GN', num_groups=2))
    net(images)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert any('.gn.' in key for key in net.state_dict())


@both
@pytest.mark.parametrize('norm_cfg', [dict(type='XX'), dict(momentum=0.1)])
def test_a_norm_that_there_is_not(kind, tiny, norm_cfg):
    with pytest.raises(
        ValueError,
        match=r'norm_cfg \{.*(XX|momentum).*\} has no type of a registered norm.* BN, .*SyncBN, GN, .*as in ',
    ) as error:
        build(kind, tiny, norm_cfg=norm_cfg)
    assert 'BN1d' not in str(error.value)


@both
def test_initialisation_is_the_authors(kind):
    torch.manual_seed(0)
    net = build(kind, dict(stem=64, channels=(128, 256), blocks=(2, 2)), with_last_conv=True)
    net.init_weights()
    assert net.stem.conv.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert not net.stem.conv.bias.any() and not net.last_conv.conv.bias.any()
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 1e-4).all()
        elif isinstance(module, nn.Conv2d) and not name.startswith('stem'):
            assert module.weight.std().item() == pytest.approx(1 / (module.in_channels // module.groups), rel=0.15)
