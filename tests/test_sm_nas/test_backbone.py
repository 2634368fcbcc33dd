"""The backbone of SM-NAS: its blocks, shapes at any size, options, and use inside mmdet's models."""

import pytest
import torch
from mmdet.models import ResNet, ResNeXt
from torch import nn

from detnas_mm.cost.count import count_params
from detnas_mm.errors import DetNASError
from detnas_mm.models import GroupNorm, StandardizedConv2d
from detnas_mm.systems.sm_nas import BlockCode, SMNASBackbone
from detnas_mm.systems.sm_nas.codes import RESNET18, RESNET50

CODE = '1-21-2-12'
#: Of its bottlenecks: the stem, three a block, and five shortcuts where stride or channels differ.
NUM_CONVS = 2 + 6 * 3 + 5
WS = dict(norm_cfg=dict(type='detnas_mm.GroupNorm', num_groups=4), conv_cfg=dict(type='detnas_mm.StandardizedConv2d'))


def tiny(**kwargs):
    return SMNASBackbone(**{**dict(code=CODE, base=8), **kwargs})


@pytest.mark.parametrize('block', ['basic', 'bottleneck', 'resnext'])
@pytest.mark.parametrize('size', [(64, 64), (75, 53), (33, 100), (1, 1)])
def test_any_input_size(block, size):
    net = tiny(block=block).eval()
    maps = net(torch.zeros(2, 3, *size))
    sizes = [tuple(-(-side // stride) for side in size) for stride in (4, 8, 16, 32)]
    assert net.channels == tuple(c * (1 if block == 'basic' else 4) for c in (8, 16, 32, 64))
    assert [tuple(m.shape) for m in maps] == [(2, c, *s) for c, s in zip(net.channels, sizes, strict=True)]
    assert net.code == BlockCode.parse(CODE)


def shapes(module, norms=False):
    kinds = (nn.Conv2d, nn.BatchNorm2d) if norms else nn.Conv2d
    return [
        (tuple(m.weight.shape), getattr(m, 'stride', None), getattr(m, 'groups', None))
        for m in module.modules()
        if isinstance(m, kinds)
    ]


@pytest.mark.parametrize(
    ('block', 'code', 'plain'),
    [
        ('basic', RESNET18, lambda: ResNet(18)),
        ('basic', RESNET50, lambda: ResNet(34)),
        ('bottleneck', RESNET50, lambda: ResNet(50)),
        ('resnext', RESNET50, lambda: ResNeXt(depth=50, groups=32, base_width=4)),
    ],
)
def test_stages_are_those_of_mmdets_nets(block, code, plain):
    """Convolutions of all stages by shape, stride and groups, whatever the order; the stem is another."""
    with torch.device('meta'):
        ours, theirs = SMNASBackbone(code, 64, block), plain()
    for stage in range(4):
        assert sorted(shapes(ours.stages[stage])) == sorted(shapes(getattr(theirs, f'layer{stage + 1}')))
    assert shapes(ours.stem) == [((32, 3, 3, 3), (2, 2), 1), ((64, 32, 3, 3), (2, 2), 1)]
    stem = count_params(ours.stem) - count_params(theirs.conv1) - count_params(theirs.bn1)
    assert count_params(ours) - count_params(theirs) == stem


@pytest.mark.parametrize('block', ['basic', 'bottleneck', 'resnext'])
def test_it_computes_what_mmdets_stages_do(block):
    """A stage of ours by the weights of mmdet's block."""
    torch.manual_seed(0)
    ours = tiny(block=block, code='2-2').eval()
    kind = ResNeXt if block == 'resnext' else ResNet
    settings = dict(groups=4, base_width=8) if block == 'resnext' else {}
    theirs = kind(depth=18 if block == 'basic' else 50, base_channels=16, **settings)
    theirs.eval()  # returns nothing
    layer = theirs.layer2[0]
    names = ['conv1', 'conv2', 'conv3'][: 2 if block == 'basic' else 3]
    convs, norms = [getattr(layer, name) for name in names], [getattr(layer, f'norm{name[-1]}') for name in names]
    state = {}
    for name, conv, norm in zip([*names, 'shortcut'], [*convs, layer.downsample[0]], [*norms, layer.downsample[1]]):
        state |= {f'{name}.conv.{key}': value for key, value in conv.state_dict().items()}
        for key, value in norm.state_dict().items():
            state[f'{name}.bn.{key}'] = torch.rand_like(value) + 0.5 if value.is_floating_point() else value
            norm.state_dict()[key].copy_(state[f'{name}.bn.{key}'])
    ours.stages[1][0].load_state_dict(state, strict=True)
    x = torch.randn(2, convs[0].in_channels, 9, 6)
    torch.testing.assert_close(ours.stages[1](x), layer(x))


@pytest.mark.parametrize(
    ('kwargs', 'match'),
    [
        (dict(code='1-3'), "'3' at position 3"),
        (dict(block='wide'), "block must be one of 'basic', 'bottleneck', 'resnext'; got 'wide'"),
        (dict(base=9), 'base must be even'),
        (dict(base='8'), "base must be a whole number of at least 2; got '8'"),
        (dict(out_indices=(0, 4)), r'from 0 \(stride 4\) to 3 \(stride 32\); got \(0, 4\)'),
        (dict(out_indices=()), 'out_indices is empty'),
        (dict(frozen_stages=5), r'must be -1 \(nothing frozen\), 0 \(stem\) or up to 4'),
        (dict(norm_eval='yes'), "norm_eval must be True or False; got 'yes'"),
        (dict(with_cp=1), 'with_cp must be True or False; got 1'),
        (dict(min_loaded=2), 'min_loaded must lie between 0 and 1'),
        (dict(in_channels=0), 'in_channels must be a whole number of at least 1'),
        (dict(norm_cfg='GN'), "norm_cfg must be a dict, .*; got 'GN'"),
        (dict(norm_cfg=dict(type='NN')), 'has no type of a registered norm'),
        (dict(conv_cfg='ConvWS'), "conv_cfg must be a dict, .*; got 'ConvWS'"),
        (dict(conv_cfg=dict(type='NoConv')), 'has no type of a registered convolution'),
    ],
)
def test_arguments_that_do_not_fit_are_refused(kwargs, match):
    with pytest.raises(DetNASError, match=match):
        tiny(**kwargs)


def test_outputs_are_those_asked_for():
    torch.manual_seed(0)
    net = tiny().eval()
    x = torch.randn(1, 3, 40, 40)
    maps = net(x)
    net.out_indices = (1, 3)
    assert all(torch.equal(a, b) for a, b in zip(net(x), (maps[1], maps[3]), strict=True))
    assert len(tiny(out_indices=2)(x)) == 1
    assert len(tiny(code='1-2-1')(x)) == 3, 'a backbone that ends at stride 16'


def test_grey_images():
    assert tiny(in_channels=1)(torch.zeros(2, 1, 64, 64))[0].shape == (2, 8, 16, 16)
    assert tiny(in_channels=1).in_channels == 1 and tiny().in_channels == 3


def test_frozen_stages_and_norm_eval():
    net = tiny(frozen_stages=2).train()
    frozen = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
    assert frozen == {n for n, _ in net.named_parameters() if n.startswith(('stem.', 'stages.0.', 'stages.1.'))}
    assert not net.stages[1].training and net.stages[2].training and not net.stem.training
    assert not any(p.requires_grad for p in tiny(frozen_stages=4).parameters())
    net = tiny(norm_eval=True).train()
    assert not any(m.training for m in net.modules() if isinstance(m, nn.BatchNorm2d)) and net.training
    assert all(m.training for m in tiny().train().modules())


@pytest.mark.parametrize('layers', [dict(), WS], ids=['bn', 'gn+ws'])
@pytest.mark.parametrize('zero', [True, False])
def test_initial_weights(layers, zero):
    net = tiny(zero_init_residual=zero, block='bottleneck', **layers)
    net.init_weights()
    norms = 0
    for name, module in net.named_modules():
        if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
            norms += 1
            assert (module.weight == (0.0 if zero and 'conv3' in name else 1.0)).all() and (module.bias == 0).all()
    assert norms == NUM_CONVS
    wide = SMNASBackbone('1', 256)
    wide.init_weights()
    weight = wide.stages[0][0].conv1.conv.weight
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize('layers', [dict(), WS], ids=['bn', 'gn+ws'])
@pytest.mark.parametrize('block', ['basic', 'resnext'])
def test_checkpointing_changes_nothing(layers, block):
    torch.manual_seed(0)
    plain = tiny(block=block, **layers)
    cheap = tiny(block=block, with_cp=True, **layers)
    cheap.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 64, 64)
    for net in (plain, cheap):
        sum(m.sum() for m in net(images)).backward()
    for (name, a), b in zip(plain.named_parameters(), cheap.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)
    for (name, a), b in zip(plain.named_buffers(), cheap.buffers(), strict=True):
        assert torch.equal(a, b), name


def test_a_checkpoint_of_another_net_is_refused(tmp_path):
    torch.save(tiny(code='1-2').state_dict(), tmp_path / 'other.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'other.pth'))
    with pytest.raises(DetNASError, match='Only .* of SMNASBackbone found'):
        tiny(init_cfg=init_cfg).init_weights()
    part = tiny(init_cfg=init_cfg, min_loaded=0.2)
    part.init_weights()
    assert torch.equal(part.stem[0].conv.weight, torch.load(tmp_path / 'other.pth')['stem.0.conv.weight'])


def test_every_convolution_is_standardised_with_groups_of_half_the_base():
    net = tiny(block='bottleneck', **WS)
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == NUM_CONVS and all(type(m) is StandardizedConv2d and not m.plain for m in convs)
    norms = [m for m in net.modules() if isinstance(m, nn.GroupNorm)]
    assert len(norms) == len(convs) and all(type(m) is GroupNorm and m.num_groups == 4 for m in norms)


def test_in_a_detector_by_scoped_type():
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope('mmdet')
    head = dict(
        type='RetinaHead', num_classes=3, in_channels=8, feat_channels=8, stacked_convs=1,
        anchor_generator=dict(type='AnchorGenerator', scales=[4], ratios=[1.0], strides=[8, 16, 32]),
    )  # fmt: skip
    neck = dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=8, start_level=1, num_outs=3)
    backbone = dict(type='detnas_mm.SMNASBackbone', code=CODE, base=8, **WS)
    model = MODELS.build(dict(type='RetinaNet', backbone=backbone, neck=neck, bbox_head=head))
    model.init_weights()
    maps = model.extract_feat(torch.zeros(1, 3, 80, 133))
    assert [tuple(m.shape[2:]) for m in maps] == [(10, 17), (5, 9), (3, 5)]


def test_it_is_traced_as_the_plain_net():
    """With standardised weights and checkpointing, as exporters do it."""
    torch.manual_seed(0)
    net = tiny(with_cp=True, block='resnext', **WS)
    traced, x = torch.fx.symbolic_trace(net), torch.randn(1, 3, 40, 56)
    assert all(torch.equal(a, b) for a, b in zip(net(x), traced(x), strict=True))
