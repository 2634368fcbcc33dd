"""Any model config becomes one that trains from random weights."""

import copy

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.utils import get_installed_path
from torch import nn

from detnas_mm.errors import DetNASError
from detnas_mm.models import GroupNorm, StandardizedConv2d, without_memory
from detnas_mm.systems.sm_nas.recipe import CONV, NORM, from_scratch


def mmdet(name):
    return Config.fromfile(f'{get_installed_path("mmdet")}/.mim/configs/{name}').model


def build(model):
    init_default_scope('mmdet')
    with without_memory():
        return MODELS.build(copy.deepcopy(model))


@pytest.mark.parametrize(
    'name',
    [
        '_base_/models/faster-rcnn_r50_fpn.py',
        '_base_/models/cascade-rcnn_r50_fpn.py',
        '_base_/models/retinanet_r50_fpn.py',
        '_base_/models/mask-rcnn_r50_fpn.py',
        '_base_/models/faster-rcnn_r50-caffe-c4.py',
        'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
        'gfl/gfl_r50_fpn_1x_coco.py',
        'guided_anchoring/ga-faster-rcnn_r50-caffe_fpn_1x_coco.py',
        'libra_rcnn/libra-retinanet_r50_fpn_1x_coco.py',
    ],
)
def test_detectors_of_mmdet(name):
    given = mmdet(name)
    kept = copy.deepcopy(given)
    found = from_scratch(given)
    assert given == kept, 'what is given stays as it was'
    assert 'Pretrained' not in repr(found) and 'pretrained' not in found
    model = build(found)
    kinds = [type(m).__name__ for m in model.modules()]
    assert not [kind for kind in kinds if 'BatchNorm' in kind]
    assert 'GroupNorm' in kinds and not any(type(m) is nn.GroupNorm for m in model.modules())
    assert all(p.requires_grad for p in model.parameters()), 'nothing is frozen'
    convs = [m for m in model.backbone.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) >= 40 and all(type(m) is StandardizedConv2d for m in convs)
    model.train()
    assert all(m.training for m in model.modules())


def test_it_is_mmdets_own_recipe():
    """ResNet's gn+ws config, and ours of the ordinary one, are the same settings but for the names of layers."""
    theirs = mmdet('gn+ws/faster-rcnn_r50_fpn_gn-ws-all_1x_coco.py')
    ordinary = mmdet('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py')
    ordinary.roi_head.bbox_head.update(type='Shared4Conv1FCBBoxHead', conv_out_channels=256)
    ours = from_scratch(ordinary, dict(type='GN', num_groups=32, requires_grad=True), dict(type='ConvWS'))
    assert theirs.backbone.pop('frozen_stages') == 1 and ours['backbone'].pop('frozen_stages') == -1
    assert theirs.backbone.pop('norm_eval') and not ours['backbone'].pop('norm_eval')
    theirs.backbone.pop('init_cfg')
    assert ours == theirs


def test_a_detector_of_c4():
    """The shared head trains like the backbone, though mmdet's has no setting of its convolutions."""
    given = mmdet('_base_/models/faster-rcnn_r50-caffe-c4.py')
    found = from_scratch(given)
    head = found['roi_head']['shared_head']
    assert head['type'] == 'detnas_mm.ResLayer'
    assert (head['norm_cfg'], head['conv_cfg'], head['norm_eval']) == (NORM, CONV, False)
    assert 'norm_cfg' not in found['roi_head']['bbox_head'] and 'norm_cfg' not in found['rpn_head']
    built = build(head)
    convs = [m for m in built.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == 10 and {type(m) for m in convs} == {StandardizedConv2d}
    own = given.roi_head.shared_head
    plain, as_mmdet = build(dict(own, type='detnas_mm.ResLayer')), build(own)
    assert repr(plain) == repr(as_mmdet) and [*plain.state_dict()] == [*as_mmdet.state_dict()]
    kept = from_scratch(given, not_taken=dict(ResLayer=['conv_cfg']))['roi_head']['shared_head']
    assert kept['type'] == 'ResLayer' and 'conv_cfg' not in kept


def test_a_shared_head_begins_with_initial_weights_and_takes_a_step():
    head = MODELS.build(dict(type='detnas_mm.ResLayer', depth=18, norm_cfg=NORM, conv_cfg=CONV, norm_eval=False))
    head.init_weights()
    convs = [m for m in head.modules() if isinstance(m, StandardizedConv2d)]
    assert {m.padding for m in convs} == {(0, 0), (1, 1)} and [m.stride for m in convs].count((2, 2)) == 2
    out = head(torch.randn(3, 256, 6, 6))
    assert out.shape == (3, 512, 3, 3)
    out.square().sum().backward()
    assert all(m.weight.grad is not None for m in convs)
    spread = convs[0].weight.std().item() * (convs[0].weight[:, 0].numel() / 2) ** 0.5
    assert abs(spread - 1) < 0.05, 'Kaiming, as mmdet initialises its convolutions'


def test_groups_of_the_published_backbones():
    model = dict(type='RetinaNet', backbone=dict(type='detnas_mm.SMNASBackbone', code='1-2-2-2', base=56))
    assert from_scratch(model)['backbone'] == dict(
        model['backbone'], norm_cfg=dict(NORM, num_groups=28), conv_cfg=CONV, norm_eval=False
    )
    own = from_scratch(model, dict(NORM, num_groups=8))
    assert own['backbone']['norm_cfg']['num_groups'] == 8
    assert from_scratch(model, dict(type='BN'))['backbone']['norm_cfg'] == dict(type='BN')
    model['backbone'] = dict(type='detnas_mm.SMNASBackbone')
    norms = [m for m in build(from_scratch(model)['backbone']).modules() if isinstance(m, nn.GroupNorm)]
    assert norms and all(type(m) is GroupNorm and m.num_groups == 32 for m in norms)


def test_what_a_type_does_not_take():
    model = dict(backbone=dict(type='MyNet', frozen_stages=2), neck=[dict(type='A'), dict(type='B')], bbox_head=None)
    found = from_scratch(model, not_taken={'MyNet': ['conv_cfg', 'norm_eval'], 'B': ['norm_cfg', 'conv_cfg']})
    assert found['backbone'] == dict(type='MyNet', frozen_stages=-1, norm_cfg=NORM)
    assert found['neck'] == [dict(type='A', norm_cfg=NORM, conv_cfg=CONV), dict(type='B')]
    assert found['bbox_head'] is None


def test_weights_go_and_other_initialisations_stay():
    weights, normal = dict(type='Pretrained', checkpoint='x.pth'), dict(type='Normal', layer='Conv2d')
    model = ConfigDict(
        backbone=dict(type='ResNet', pretrained='torchvision://resnet50', init_cfg=[weights, normal]),
        neck=dict(type='FPN', init_cfg=normal),
        bbox_head=[dict(type='X', init_cfg=[weights]), dict(type='mmdet.RPNHead', init_cfg=dict(weights))],
        init_cfg=weights,
    )
    found = from_scratch(model)
    assert found['backbone']['init_cfg'] == [normal] and 'pretrained' not in found['backbone']
    assert found['neck']['init_cfg'] == normal and 'init_cfg' not in found
    assert found['bbox_head'] == [dict(type='X', norm_cfg=NORM, conv_cfg=CONV), dict(type='mmdet.RPNHead')]


@pytest.mark.parametrize(
    'args', [('model',), (None,), (dict(), 'GN'), (dict(), None, 'ConvWS'), (dict(), None, None, ['MyNet'])]
)
def test_what_is_no_config_is_refused(args):
    with pytest.raises(DetNASError, match='of the recipe from scratch must be a dict; got'):
        from_scratch(*args)


@pytest.mark.parametrize(
    'backbone',
    [
        dict(type='detnas_mm.DetNASNet', arch='coco-fpn-300m', frozen_stages=1, norm_eval=True),
        dict(type='detnas_mm.MAEDetNet', arch='maedet-s', frozen_stages=1, norm_eval=True),
        dict(
            type='detnas_mm.DilatedBackbone', plain='mmdet.ResNet', depth=50, genotypes='ic-resnet50-detection',
            frozen_stages=1, norm_eval=True,
        ),
    ],
    ids=lambda backbone: backbone['type'],
)  # fmt: skip
def test_backbones_of_this_package(backbone):
    """Found nets stand among the others; of dilated ones the convolutions are what was found, so they stay."""
    net = build(from_scratch(dict(backbone=backbone))['backbone'])
    dilated = 'Dilated' in backbone['type']
    assert not [m for m in net.modules() if 'BatchNorm' in type(m).__name__]
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert all(isinstance(m, StandardizedConv2d) != dilated for m in convs)
    assert all(m.plain == (m.groups > 1) for m in convs if not dilated)
    assert any(isinstance(m, GroupNorm) for m in net.modules()) and all(p.requires_grad for p in net.parameters())
