"""Multiply-adds of whole detectors agree with counting by hooks."""

import pytest
import torch
from mmcv.ops import DeformConv2d
from mmdet.utils import register_all_modules
from mmengine.config import Config
from torch import nn

from detnas_mm.cost.count import count_detector_macs
from detnas_mm.cost.detector import _plain_convolutions
from detnas_mm.errors import DetNASError
from detnas_mm.models import build_model


@pytest.mark.parametrize('stages', [1, 2], ids=['faster', 'cascade'])
def test_two_stage_detectors_are_counted_on_all_proposals(stages):
    """By hand: all convolutions and linear layers by their hooks, in a pass on the CPU; the RoI head on 20 boxes."""
    register_all_modules(init_default_scope=False)
    bbox_head = dict(
        type='Shared2FCBBoxHead', in_channels=8, fc_out_channels=16, roi_feat_size=7, num_classes=3,
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
    )  # fmt: skip
    extractor = dict(
        type='SingleRoIExtractor',
        roi_layer=dict(type='RoIAlign', output_size=7),
        out_channels=8,
        featmap_strides=[4, 8],
    )
    roi_head = dict(type='StandardRoIHead', bbox_roi_extractor=extractor, bbox_head=bbox_head)
    if stages > 1:
        roi_head |= dict(type='CascadeRoIHead', num_stages=2, stage_loss_weights=[1, 1], bbox_head=[bbox_head] * 2)
    cfg = Config(
        dict(
            default_scope='mmdet',
            model=dict(
                type='FasterRCNN',
                backbone=dict(type='ResNet', depth=18, base_channels=4, out_indices=(0, 1)),
                neck=dict(type='FPN', in_channels=[4, 8], out_channels=8, num_outs=2),
                rpn_head=dict(
                    type='RPNHead', in_channels=8, feat_channels=8,
                    anchor_generator=dict(type='AnchorGenerator', scales=[8], ratios=[1.0], strides=[4, 8]),
                ),
                roi_head=roi_head,
                train_cfg=None,
                test_cfg=dict(rpn=dict(nms_pre=1000, max_per_img=20), rcnn=dict(score_thr=0.05)),
            ),
        )
    )  # fmt: skip
    model = build_model(cfg).eval()
    found = count_detector_macs(model, (32, 64))
    counted = 0

    def count(module, args, out):
        nonlocal counted
        counted += out.numel() * module.weight[0].numel()

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    with torch.no_grad():
        maps = model.extract_feat(torch.zeros(1, 3, 32, 64))
        model.rpn_head(maps)
        heads = [model.roi_head.bbox_head] if stages == 1 else model.roi_head.bbox_head
        for head in heads:
            head(torch.zeros(20, 8, 7, 7))
    assert found == counted > 0
    model.test_cfg.rpn.nms_pre = 5  # of both levels
    fewer = count_detector_macs(model, (32, 64))
    second_stage = (8 * 49 * 16 + 16 * 16 + 16 * 4 + 16 * 12) * stages
    assert found - fewer == 10 * second_stage
    with pytest.raises(
        DetNASError, match='Only single-stage and two-stage detectors of mmdet can be counted; got ResNet'
    ):
        count_detector_macs(model.backbone, 32)


def test_deformable_convolutions_count_as_others_do():
    """Those of mmcv have no operator for shapes alone."""
    conv = DeformConv2d(4, 6, 3, padding=1, bias=False)
    with _plain_convolutions(conv), torch.no_grad():
        out = conv(torch.ones(1, 4, 8, 8), torch.zeros(1, 18, 8, 8))
    expected = nn.functional.conv2d(torch.ones(1, 4, 8, 8), conv.weight, padding=1)
    assert torch.equal(out, expected) and 'forward' not in vars(conv)
