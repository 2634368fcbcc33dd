"""Proposals and boxes of two-stage heads computed for a whole batch are bit-identical to mmdet's own."""

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from detnas_mm.evaluators.detection import roi_boxes
from detnas_mm.evaluators.one_shot import bn_recalibration

from .test_dense_boxes import assert_equal

METAS = [
    dict(img_shape=(72 - 3 * i, 104 - 5 * i), scale_factor=(0.5 + 0.25 * i, 0.7 + 0.1 * i)) for i in range(4)
]  # fmt: skip
RCNN = dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=20)


def build(cfg):
    register_all_modules(False)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(cfg)


def make_rpn(softmax=False, **test_cfg):
    anchors = dict(type='AnchorGenerator', scales=[4], ratios=[0.5, 1.0], strides=[8, 16, 32])
    cfg = ConfigDict(nms_pre=60, max_per_img=40, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0)
    cfg.update(test_cfg)
    loss = dict(type='CrossEntropyLoss', use_sigmoid=not softmax)
    return build(
        dict(type='RPNHead', in_channels=8, feat_channels=8, anchor_generator=anchors, loss_cls=loss, test_cfg=cfg)
    )


def rpn_outputs(head, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores, deltas = [], []
    for stride in (8, 16, 32):
        size = -(-72 // stride), -(-104 // stride)
        scores.append(torch.randn((4, 2 * head.cls_out_channels, *size), generator=generator) * 2)
        deltas.append(torch.randn((4, 8, *size), generator=generator))
    return scores, deltas


def make_box_head(agnostic=False):
    return build(
        dict(type='Shared2FCBBoxHead', in_channels=4, fc_out_channels=8, roi_feat_size=3, num_classes=5,
             reg_class_agnostic=agnostic)
    )  # fmt: skip


def regions(head, counts=(13, 1, 30, 7), seed=0, shift=1.0):
    """RoIs of images, and what a box head may say of them."""
    generator = torch.Generator().manual_seed(seed)
    rois, scores, deltas = [], [], []
    for image, count in enumerate(counts):
        corner = torch.rand((count, 2), generator=generator) * 60
        size = torch.rand((count, 2), generator=generator) * 40 + 2
        rois.append(torch.cat([torch.full((count, 1), float(image)), corner, corner + size], 1))
        scores.append(torch.randn((count, 6), generator=generator) * 2 * shift)
        deltas.append(torch.randn((count, 4 if head.reg_class_agnostic else 20), generator=generator))
    return rois, scores, deltas


def model_of(rpn=None, *heads):
    model = torch.nn.Module()
    if rpn is not None:
        model.rpn_head = rpn
    if heads:
        model.roi_head = torch.nn.Module()
        model.roi_head.bbox_head = heads[0] if len(heads) == 1 else torch.nn.ModuleList(heads)
    return model


def both(model, head, *args, **kwargs):
    wanted = head.predict_by_feat(*args, **kwargs)
    with roi_boxes.together(model) as works:
        assert works and 'predict_by_feat' in vars(head)
        found = head.predict_by_feat(*args, **kwargs)
    assert 'predict_by_feat' not in vars(head)
    return wanted, found


@pytest.mark.parametrize(
    'change',
    [
        {},
        dict(nms_pre=5),
        dict(nms_pre=-1),
        dict(max_per_img=3),
        dict(min_bbox_size=20),
        dict(min_bbox_size=-1),
        dict(nms=dict(type='nms', iou_threshold=0.3)),
        dict(softmax=True),
    ],
    ids=str,
)
@pytest.mark.parametrize('rescale', [False, True])
def test_proposals_equal_mmdets(change, rescale):
    rpn = make_rpn(**change)
    wanted, found = both(model_of(rpn), rpn, *rpn_outputs(rpn), batch_img_metas=METAS, rescale=rescale)
    assert sum(map(len, wanted)) > 4
    assert_equal(wanted, found)


def test_proposals_need_no_loss():
    rpn = make_rpn().train()
    rpn.train_cfg = ConfigDict()  # without which there is no loss
    sizes = [(-(-72 // stride), -(-104 // stride)) for stride in (8, 16, 32)]
    maps = [torch.randn((4, 8, *size), generator=torch.Generator().manual_seed(0)) for size in sizes]
    nobody = InstanceData(bboxes=torch.zeros(0, 4))
    metas = [meta | dict(pad_shape=(72, 104)) for meta in METAS]
    samples = [DetDataSample(metainfo=meta, gt_instances=nobody) for meta in metas]
    with bn_recalibration.without_rpn_loss(model_of(rpn)):
        losses, found = rpn.loss_and_predict(maps, samples)
    assert losses == {} and 'loss_by_feat' not in vars(rpn)
    assert_equal(rpn.predict(maps, samples), found)


def test_equal_scores_of_proposals_keep_their_order():
    rpn = make_rpn()
    scores, deltas = rpn_outputs(rpn)
    scores = [torch.where(level > 0, torch.full_like(level, 1.5), level) for level in scores]
    assert_equal(*both(model_of(rpn), rpn, scores, deltas, batch_img_metas=METAS))


@pytest.mark.parametrize('agnostic', [False, True])
@pytest.mark.parametrize('rescale', [False, True])
@pytest.mark.parametrize(
    'change',
    [{}, dict(score_thr=0.4), dict(score_thr=0.9999), dict(max_per_img=2), dict(max_per_img=-1),
     dict(nms=dict(type='soft_nms', iou_threshold=0.5)), dict(min_bbox_size=30)],
    ids=str,
)  # fmt: skip
def test_boxes_equal_mmdets(agnostic, rescale, change):
    head = make_box_head(agnostic)
    cfg = ConfigDict(RCNN | change)
    wanted, found = both(model_of(None, head), head, *regions(head), METAS, rcnn_test_cfg=cfg, rescale=rescale)
    assert sum(map(len, wanted)) > 4 or change == dict(score_thr=0.9999)
    assert_equal(wanted, found)


def test_images_without_a_region():
    head = make_box_head()
    wanted, found = both(
        model_of(None, head), head, *regions(head, (0, 5, 0, 3)), METAS, rcnn_test_cfg=ConfigDict(RCNN)
    )
    assert not len(wanted[0]) and len(wanted[1])
    assert_equal(wanted, found)


def test_proposals_without_nms_are_left_to_mmdet():
    rpn = make_rpn()
    assert_equal(*both(model_of(rpn), rpn, *rpn_outputs(rpn), batch_img_metas=METAS, with_nms=False))


def test_proposals_by_settings_of_their_own():
    """In training mmdet hands the RPN those of training."""
    rpn = make_rpn()
    for nms in (dict(type='nms', iou_threshold=0.2), dict(type='soft_nms', iou_threshold=0.2)):
        cfg = ConfigDict(rpn.test_cfg | dict(max_per_img=7, nms=nms))
        wanted, found = both(model_of(rpn), rpn, *rpn_outputs(rpn), batch_img_metas=METAS, cfg=cfg)
        assert max(map(len, wanted)) == 7
        assert_equal(wanted, found)


def test_raw_results_are_left_to_mmdet():
    head = make_box_head()
    wanted, found = both(model_of(None, head), head, *regions(head), METAS)
    assert all(torch.equal(a.scores, b.scores) for a, b in zip(wanted, found, strict=True))
    assert wanted[0].scores.shape[1] == 6


def test_every_box_head_of_a_cascade_is_served_and_a_head_of_ones_own_is_not():
    first, second = make_box_head(), make_box_head()
    with roi_boxes.together(model_of(make_rpn(), first, second)) as works:
        assert works == 3
        assert all('predict_by_feat' in vars(head) for head in (first, second))

    class Own(type(first)):
        def predict_by_feat(self, *args, **kwargs):
            return super().predict_by_feat(*args, **kwargs)

    first.__class__ = Own
    with roi_boxes.together(model_of(None, first)) as works:
        assert works == 0
    soft = make_rpn(nms=dict(type='soft_nms', iou_threshold=0.5))
    with roi_boxes.together(model_of(soft)) as works:
        assert works == 0
    with roi_boxes.together(torch.nn.Linear(1, 1)) as works:
        assert works == 0
