"""Group normalisation that fits every layer, standardised weights, and the piece of config that holds both."""

import copy

import pytest
import torch
from mmcv.cnn import ConvModule, build_conv_layer, build_norm_layer
from mmcv.cnn.bricks.conv_ws import ConvWS2d
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from detnas_mm.errors import DetNASError
from detnas_mm.models import GroupNorm, StandardizedConv2d
from detnas_mm.models.layers import conv_norm
from detnas_mm.spaces.conv import Conv

NORM, CONV = dict(type='detnas_mm.GroupNorm', requires_grad=True), dict(type='detnas_mm.StandardizedConv2d')


@pytest.mark.parametrize(
    ('channels', 'asked', 'groups'),
    [(64, 32, 32), (16, 32, 16), (24, 32, 24), (40, 32, 20), (37, 32, 1), (96, 28, 24), (1, 32, 1), (62, 32, 31)],
)
def test_groups_are_the_largest_divisor(channels, asked, groups):
    name, norm = build_norm_layer(dict(NORM, num_groups=asked), channels, postfix=1)
    assert name == 'gn1' and type(norm) is GroupNorm and (norm.num_groups, norm.eps) == (groups, 1e-5)
    torch.manual_seed(0)
    x = torch.randn(2, channels, 5, 4)
    assert torch.equal(norm(x), nn.GroupNorm(groups, channels)(x))


def test_its_output_is_contiguous_on_a_cpu_where_channels_last_is_slow():
    torch.manual_seed(0)
    x = torch.randn(2, 8, 5, 4).contiguous(memory_format=torch.channels_last)
    theirs, ours = nn.GroupNorm(4, 8)(x), GroupNorm(8, 4)(x)
    assert not theirs.is_contiguous() and ours.is_contiguous()
    torch.testing.assert_close(ours, theirs)


def test_a_norm_that_is_none_is_refused():
    for groups in (0, -1, 2.0, '32', True):
        with pytest.raises(DetNASError, match='num_groups of a GroupNorm must be a whole number of at least 1'):
            GroupNorm(8, groups)
    assert not any(p.requires_grad for p in build_norm_layer(dict(NORM, requires_grad=False), 8)[1].parameters())


@pytest.mark.parametrize('kwargs', [dict(), dict(stride=2, padding=1), dict(groups=2, bias=False), dict(dilation=2)])
def test_filters_are_those_of_mmcv(kwargs):
    torch.manual_seed(0)
    theirs = ConvWS2d(8, 6, 3, **kwargs)
    ours = build_conv_layer(CONV, 8, 6, 3, **kwargs)
    assert type(ours) is StandardizedConv2d and ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 8, 9, 7)
    outs = [conv(x) for conv in (theirs, ours)]
    assert torch.equal(*outs)
    grads = [torch.autograd.grad(out.square().sum(), conv.weight)[0] for out, conv in zip(outs, (theirs, ours))]
    torch.testing.assert_close(*grads)
    flat = ours.standardized().flatten(1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(6), atol=1e-6, rtol=0)
    torch.testing.assert_close(flat.std(1), torch.ones(6), atol=1e-3, rtol=0)


def test_depthwise_filters_and_single_weights_stay_as_they_are():
    x = torch.randn(2, 6, 5, 5)
    for conv in (StandardizedConv2d(6, 6, 3, groups=6), StandardizedConv2d(6, 12, 1, groups=6)):
        assert conv.standardized() is conv.weight and torch.equal(conv(x), nn.Conv2d.forward(conv, x))
    grey = StandardizedConv2d(1, 4, 3)  # one channel is no depthwise convolution
    assert not torch.equal(grey.standardized(), grey.weight)
    assert StandardizedConv2d(1, 4, 1)(x[:, :1]).isfinite().all(), 'one weight has no deviation'


def test_layers_of_this_package_take_them():
    layer = conv_norm(Conv(3, 24, 3, 2), NORM, True, CONV)
    assert list(dict(layer.named_children())) == ['conv', 'gn', 'relu'] and layer.gn.num_groups == 24
    assert type(layer.conv) is StandardizedConv2d and layer.conv.bias is None and layer.conv.stride == (2, 2)
    with pytest.raises(DetNASError, match="conv_cfg {'type': 'NoSuchConv'} has no type of a registered convolution"):
        conv_norm(Conv(3, 24), NORM, True, dict(type='NoSuchConv'))


def test_initialisers_of_mmengine_know_them():
    """They match names of a layer's class and of its direct bases alone."""
    module = ConvModule(8, 8, 3, norm_cfg=NORM, conv_cfg=CONV)
    assert [type(m).__name__ for m in module.children()][:2] == ['StandardizedConv2d', 'GroupNorm']
    init_default_scope('mmdet')
    net = MODELS.build(dict(type='ResNet', depth=18, base_channels=8, norm_cfg=NORM, conv_cfg=CONV))
    for p in net.parameters():
        nn.init.constant_(p, 7.0)
    net.init_weights()
    for name, p in net.named_parameters():
        assert not (p == 7).any(), name
        if name.endswith('bn2.weight') or name.endswith('gn2.weight'):
            assert (p == 0).all(), 'the last norm of a block'


# -- in detectors -----------------------------------------------------------------------------------------------------


def with_piece(folder, base, pieces):
    """A config that inherits a detector and the piece."""
    path = folder / 'mine.py'
    path.write_text(f"_base_ = ['mmdet::{base}', 'detnas_mm::_base_/models/gn_ws.py']\nmodel = dict({pieces})\n")
    return Config.fromfile(path)


def modules_of(model):
    return {
        name: (m.num_groups, m.num_channels, m.eps) if isinstance(m, nn.GroupNorm) else tuple(m.weight.shape)
        for name, m in model.named_modules()
        if isinstance(m, (nn.GroupNorm, nn.Conv2d, nn.Linear))
    }


def standardized_in(model):
    return {name for name, m in model.named_modules() if isinstance(m, (ConvWS2d, StandardizedConv2d))}


def test_the_piece_makes_of_a_detector_what_mmdets_config_is(tmp_path):
    """Faster R-CNN with ResNet-50, gn+ws in all its parts: the same modules, the same keys, the same outputs."""
    theirs = Config.fromfile(mmdet_config('gn+ws/faster-rcnn_r50_fpn_gn-ws-all_1x_coco.py'))
    layers = '{{_base_.from_scratch.layers}}'
    cfg = with_piece(
        tmp_path,
        'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
        f'backbone={{{{_base_.from_scratch.backbone}}}}, neck={layers}, roi_head=dict(bbox_head={layers})',
    )
    cfg.model.roi_head.bbox_head.update(type='Shared4Conv1FCBBoxHead', conv_out_channels=256)  # as there
    init_default_scope('mmdet')
    models = []
    for one in (theirs, cfg):
        one.model.backbone.init_cfg = None
        torch.manual_seed(0)
        models.append(MODELS.build(one.model).eval())
    assert modules_of(models[0]) == modules_of(models[1])
    assert standardized_in(models[0]) == standardized_in(models[1]) and len(standardized_in(models[1])) == 65
    models[1].load_state_dict(models[0].state_dict(), strict=True)
    with torch.no_grad():
        for a, b in zip(*(model.extract_feat(torch.ones(1, 3, 64, 64)) for model in models), strict=True):
            assert torch.equal(a, b)
    ours = models[1].backbone
    assert ours.frozen_stages == -1 and not ours.norm_eval and ours.init_cfg[0]['type'] == 'Kaiming'
    assert all(p.requires_grad for p in ours.parameters())


def mmdet_config(name):
    from mmengine.utils import get_installed_path

    return f'{get_installed_path("mmdet")}/.mim/configs/{name}'


def test_mobilenet_v2_in_a_retinanet(tmp_path):
    """Channels that 32 does not divide, and depthwise convolutions."""
    layers = '{{_base_.from_scratch.layers}}'
    cfg = with_piece(
        tmp_path,
        '_base_/models/retinanet_r50_fpn.py',
        "backbone=dict(_delete_=True, type='MobileNetV2', out_indices=(1, 2, 4, 6), init_cfg=None, "
        'norm_cfg={{_base_.from_scratch.layers.norm_cfg}}, conv_cfg={{_base_.from_scratch.layers.conv_cfg}}), '
        f'neck={layers}, bbox_head={layers}',
    )
    cfg.model.neck.in_channels = [24, 32, 96, 320]
    init_default_scope('mmdet')
    model = MODELS.build(copy.deepcopy(cfg.model)).train()
    norms = [m for m in model.modules() if isinstance(m, nn.GroupNorm)]
    assert {(m.num_channels, m.num_groups) for m in norms} >= {(16, 16), (24, 24), (32, 32), (144, 24), (320, 32)}
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    convs = [m for m in model.backbone.modules() if isinstance(m, nn.Conv2d)]
    depthwise = [m for m in convs if m.groups > 1]
    assert len(depthwise) == 17 and all(m.plain for m in depthwise)
    assert not any(m.plain for m in convs if m.groups == 1) and all(isinstance(m, StandardizedConv2d) for m in convs)
    sum(level.square().mean() for level in model.extract_feat(torch.randn(2, 3, 64, 64))).backward()
    read = [p for name, p in model.backbone.named_parameters() if not name.startswith('conv2.')]  # nobody asks for it
    assert all(p.grad.isfinite().all() for p in read)
