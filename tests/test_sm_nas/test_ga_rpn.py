"""GA-RPN without masked convolutions: mmdet's keys and boxes, batches on the CPU, a loss step."""

import copy

import pytest
import torch
from mmcv.ops import MaskedConv2d
from mmdet.models.dense_heads import GARPNHead as MaskedGARPNHead
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData
from mmengine.utils import get_installed_path

from detnas_mm.errors import DetNASError

STRIDES = [8, 16]
SIZES = [(12, 9), (6, 5)]
ASSIGNER = dict(type='MaxIoUAssigner', pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3, ignore_iof_thr=-1)
SAMPLER = dict(type='RandomSampler', num=64, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False)
SETTINGS = dict(
    in_channels=8,
    feat_channels=8,
    approx_anchor_generator=dict(
        type='AnchorGenerator', octave_base_scale=4, scales_per_octave=3, ratios=[0.5, 1.0, 2.0], strides=STRIDES
    ),
    square_anchor_generator=dict(type='AnchorGenerator', ratios=[1.0], scales=[4], strides=STRIDES),
    anchor_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[0.07, 0.07, 0.14, 0.14]),
    bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[0.07, 0.07, 0.11, 0.11]),
    loc_filter_thr=0.5,
    loss_loc=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
    loss_shape=dict(type='BoundedIoULoss', beta=0.2, loss_weight=1.0),
    loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
    loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0),
    train_cfg=dict(
        assigner=dict(ASSIGNER, match_low_quality=True),
        sampler=SAMPLER,
        ga_assigner=dict(type='ApproxMaxIoUAssigner', **{k: v for k, v in ASSIGNER.items() if k != 'type'}),
        ga_sampler=SAMPLER,
        allowed_border=-1,
        center_ratio=0.2,
        ignore_ratio=0.5,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(
        nms_pre=60, nms_post=40, max_per_img=30, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0
    ),
)  # fmt: skip
META = dict(img_shape=(96, 72), pad_shape=(96, 72), ori_shape=(96, 72), scale_factor=(1.0, 1.0))


def make_head(kind=None, **kwargs):
    """A head with random weights that keeps about half of all positions."""
    init_default_scope('mmdet')
    settings = ConfigDict(copy.deepcopy({**SETTINGS, **kwargs}))
    torch.manual_seed(3)
    head = kind(**settings) if kind else MODELS.build(dict(type='detnas_mm.GARPNHead', **settings))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(0, 0.3)
    return head


def features(images, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(images, 8, *size, generator=generator) for size in SIZES]


def predict(head, maps):
    metas = [META] * maps[0].shape[0]
    with torch.no_grad():
        return head.eval().predict_by_feat(*head(maps), batch_img_metas=metas)


def masked(conv, x, mask=None):
    """Computes the result of mmcv's GPU operator for one image: the convolution inside the mask, zero elsewhere."""
    out = torch.nn.functional.conv2d(x, conv.weight, conv.bias)
    if mask is None:
        return out
    assert x.shape[0] == mask.shape[0] == 1
    return out * (mask > 0)


@pytest.mark.parametrize('threshold', [0.01, 0.5, 0.6, 0.8])
@pytest.mark.parametrize('seed', range(3))
def test_boxes_are_those_of_mmdets_masked_head(threshold, seed, monkeypatch):
    ours, theirs = (make_head(kind, loc_filter_thr=threshold) for kind in (None, MaskedGARPNHead))
    assert type(ours) is not type(theirs) and isinstance(ours, MaskedGARPNHead)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    maps = features(1, seed)
    (found,) = predict(ours, maps)
    monkeypatch.setattr(MaskedConv2d, 'forward', masked)
    theirs.eval()
    outs = theirs(maps)
    if threshold > 0.1:
        assert (outs[0][0] == 0).any(), 'the reference masks some positions'
    (expected,) = predict(theirs, maps)
    assert len(found) == len(expected) > 0
    for key in ('bboxes', 'scores', 'labels'):
        assert torch.equal(found[key], expected[key]), key


def test_mmdets_own_head_predicts_nothing_here():
    """Shows that the own operator is needed; if this fails, mmcv supports it, and the own one can be removed."""
    head = make_head(MaskedGARPNHead)
    for images in (1, 2):
        with pytest.raises(Exception, match='implementation for device cpu not found|AssertionError|^$'):
            predict(head, features(images))


def test_a_batch_is_its_images_one_by_one():
    head, maps = make_head(), features(2)
    batch = predict(head, maps)
    assert [len(found) for found in batch] == [30, 30]
    for index, found in enumerate(batch):
        (alone,) = predict(head, [level[index : index + 1] for level in maps])
        torch.testing.assert_close(found.bboxes, alone.bboxes)
        torch.testing.assert_close(found.scores, alone.scores)


def test_an_image_without_a_position_has_no_proposals(monkeypatch):
    head, maps = make_head(), features(2)
    with torch.no_grad():
        head.conv_loc.weight.zero_()
        head.conv_loc.bias.fill_(-9)
    theirs = make_head(MaskedGARPNHead)
    theirs.load_state_dict(head.state_dict())
    monkeypatch.setattr(MaskedConv2d, 'forward', masked)
    with pytest.raises(Exception, match='non-empty list'):
        predict(theirs, features(1))
    for found in predict(head, maps):
        assert found.bboxes.shape == (0, 4) and len(found.scores) == len(found.labels) == 0
        assert found.labels.dtype == torch.long
    head.loc_filter_thr = 0.0
    assert all(len(found) == 30 for found in predict(head, maps))


def test_a_loss_step():
    head = make_head().train()
    boxes = [torch.tensor([[4.0, 4, 40, 44], [20, 10, 60, 70]]), torch.tensor([[30.0, 30, 62, 60]])]
    instances = [InstanceData(bboxes=box, labels=torch.zeros(len(box), dtype=torch.long)) for box in boxes]
    losses = head.loss_by_feat(*head(features(2)), instances, [META] * 2)
    assert set(losses) == {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_anchor_shape', 'loss_anchor_loc'}
    total = sum(sum(value) for value in losses.values())
    total.backward()
    assert total.isfinite() and all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_channels_that_mmdet_cannot_run_are_refused():
    with pytest.raises(DetNASError, match='feat_channels equal to in_channels; got feat_channels=16 and in_channels=8'):
        make_head(feat_channels=16)


def test_in_a_detector_that_predicts_a_batch_of_two():
    """Mmdet's GA Faster R-CNN, slim, with our head: a loss step and boxes of two images on the CPU."""
    cfg = Config.fromfile(
        f'{get_installed_path("mmdet")}/.mim/configs/guided_anchoring/ga-faster-rcnn_r50-caffe_fpn_1x_coco.py'
    ).model
    cfg.backbone = dict(type='detnas_mm.SMNASBackbone', code='1-2-2-2', base=8)
    cfg.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    cfg.rpn_head.update(type='detnas_mm.GARPNHead', in_channels=16, feat_channels=16)
    cfg.roi_head.bbox_roi_extractor.out_channels = 16
    cfg.roi_head.bbox_head.update(in_channels=16, fc_out_channels=16, num_classes=3)
    cfg.test_cfg.rcnn.score_thr = 0.0
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    samples = []
    for _ in range(2):
        sample = DetDataSample(metainfo=dict(img_shape=(96, 128), ori_shape=(96, 128), scale_factor=(1.0, 1.0)))
        boxes = torch.tensor([[4.0, 4, 40, 44], [20, 10, 110, 90]])
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0, 2]))
        sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=torch.zeros(0, dtype=torch.long))
        samples.append(sample)
    images = [torch.randint(256, (3, 96, 128), dtype=torch.uint8) for _ in range(2)]
    data = model.data_preprocessor(dict(inputs=images, data_samples=samples), training=True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    assert loss.isfinite() and not [name for name, p in model.named_parameters() if p.grad is None]
    with torch.no_grad():
        found = model.eval()(**data, mode='predict')
    assert len(found) == 2 and all(len(one.pred_instances) > 0 for one in found)
