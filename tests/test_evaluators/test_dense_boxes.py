"""Boxes computed for a whole batch are bit-identical to mmdet's own, computed per image."""

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

from detnas_mm.evaluators.detection import dense_boxes
from detnas_mm.evaluators.numerics import numerics


def make_head(kind='RetinaHead', **test_cfg):
    register_all_modules(False)
    head = dict(
        type=kind, num_classes=5, in_channels=32, feat_channels=32, stacked_convs=1,
        anchor_generator=dict(
            type='AnchorGenerator', octave_base_scale=4, scales_per_octave=2, ratios=[0.5, 1.0], strides=[8, 16, 32]
        ),
        test_cfg=ConfigDict(
            nms_pre=50, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=30
        ),
    )  # fmt: skip
    head['test_cfg'].update(test_cfg)
    if kind == 'ATSSHead':
        head['anchor_generator'] = dict(
            type='AnchorGenerator', ratios=[1.0], octave_base_scale=8, scales_per_octave=1, strides=[8, 16, 32]
        )
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(head)


def make_model(head):
    model = torch.nn.Module()
    model.bbox_head = head
    return model


def make_outputs(head, images=4, height=72, width=104, spread=2.0, shift=-4.0, seed=0):
    """Returns head outputs for images with odd map sizes."""
    generator = torch.Generator().manual_seed(seed)
    anchors = head.prior_generator.num_base_priors[0]
    scores, deltas = [], []
    for stride in (8, 16, 32):
        size = (images, anchors * head.cls_out_channels, -(-height // stride), -(-width // stride))
        scores.append(torch.randn(size, generator=generator) * spread + shift)
        deltas.append(torch.randn((images, anchors * 4, *size[2:]), generator=generator))
    metas = [
        dict(img_shape=(height - 3 * i, width - 5 * i), scale_factor=(0.5 + 0.25 * i, 0.7 + 0.1 * i))
        for i in range(images)
    ]
    return scores, deltas, metas


def both(head, scores, deltas, metas, rescale=True):
    model = make_model(head)
    wanted = head.predict_by_feat(scores, deltas, batch_img_metas=metas, rescale=rescale)
    with dense_boxes.together(model) as fits:
        assert fits and 'predict_by_feat' in vars(head)
        found = head.predict_by_feat(scores, deltas, batch_img_metas=metas, rescale=rescale)
    assert 'predict_by_feat' not in vars(head)
    return wanted, found


def assert_equal(wanted, found):
    assert len(wanted) == len(found)
    for a, b in zip(wanted, found, strict=True):
        assert set(a.keys()) == set(b.keys()) == {'bboxes', 'scores', 'labels'}
        for key in ('bboxes', 'scores', 'labels'):
            assert a[key].shape == b[key].shape and a[key].dtype == b[key].dtype
            assert torch.equal(a[key], b[key])


@pytest.mark.parametrize('rescale', [True, False])
@pytest.mark.parametrize('size', [(72, 104), (96, 96), (33, 210)])
def test_equal_to_mmdets(size, rescale):
    head = make_head()
    wanted, found = both(head, *make_outputs(head, 4, *size), rescale)
    assert sum(map(len, wanted)) > 20
    assert_equal(wanted, found)


@pytest.mark.parametrize(
    'change',
    [
        dict(score_thr=0.0),  # nothing is left out before the best nms_pre
        dict(nms_pre=7),
        dict(max_per_img=3),
        dict(min_bbox_size=12),
        dict(min_bbox_size=-1),
        dict(nms=dict(type='nms', iou_threshold=0.9)),
        dict(score_thr=0.9999),  # nothing is left on most images
    ],
    ids=str,
)
def test_equal_for_other_thresholds(change):
    head = make_head(**change)
    assert_equal(*both(head, *make_outputs(head)))


def test_equal_for_softmax_scores():
    head = make_head()
    head.use_sigmoid_cls, head.cls_out_channels = False, 6
    assert_equal(*both(head, *make_outputs(head, shift=0.0)))


def test_equal_scores_keep_their_order():
    head = make_head()
    scores, deltas, metas = make_outputs(head)
    scores = [torch.where(s > -3.5, torch.full_like(s, 1.5), s) for s in scores]
    assert_equal(*both(head, scores, deltas, metas))


def test_equal_beyond_the_number_that_mmcv_suppresses_at_once(monkeypatch):
    head = make_head(nms_pre=20_000, score_thr=0.0)
    scores, deltas, metas = make_outputs(head, images=2, height=256, width=256)
    counts = []
    original = dense_boxes.batched_nms
    monkeypatch.setattr(dense_boxes, 'batched_nms', lambda *a: (counts.append(len(a[0])), original(*a))[1])
    assert_equal(*both(head, scores, deltas, metas))
    assert counts and min(counts) >= dense_boxes._SPLIT


def test_images_without_any_box():
    head = make_head()
    scores, deltas, metas = make_outputs(head)
    for level in scores:
        level[1] = -30.0
    wanted, found = both(head, scores, deltas, metas)
    assert len(wanted[1]) == 0 and sum(map(len, wanted)) > 0
    assert_equal(wanted, found)
    wanted, found = both(head, [s * 0 - 30 for s in scores], deltas, metas)
    assert sum(map(len, wanted)) == 0
    assert_equal(wanted, found)


@pytest.mark.parametrize('threads', [1, 2])
def test_equal_for_any_number_of_threads(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        head = make_head()
        assert_equal(*both(head, *make_outputs(head, images=8, height=256, width=256)))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    'make',
    [
        lambda: make_head('ATSSHead'),  # multiplies scores by centreness
        lambda: make_head(nms=dict(type='soft_nms', iou_threshold=0.5)),
        lambda: make_head(nms=dict(type='nms', iou_threshold=0.5, class_agnostic=True)),
    ],
    ids=['ATSS', 'soft NMS', 'class-agnostic NMS'],
)
def test_other_heads_are_left_to_mmdet(make):
    head = make()
    with dense_boxes.together(make_model(head)) as fits:
        if fits:  # ATSS: the method is mmdet's common one, but called with more
            scores, deltas, metas = make_outputs(head, shift=-2.0)
            factors = [torch.zeros(len(s), 1, *s.shape[2:]) for s in scores]
            found = head.predict_by_feat(scores, deltas, factors, metas, rescale=True)
        else:
            assert 'predict_by_feat' not in vars(head)
            return
    wanted = head.predict_by_feat(scores, deltas, factors, metas, rescale=True)
    assert_equal(wanted, found)


def test_heads_left_to_mmdet_make_boxes_in_single_precision():
    """A wrapper that numerics put around the head's method is kept."""
    head = make_head('ATSSHead')
    model = make_model(head)
    model.weight = torch.nn.Parameter(torch.zeros(1))
    scores, deltas, metas = make_outputs(head, shift=-2.0)
    outputs = [[x.bfloat16() for x in level] for level in (scores, deltas, [s[:, :1] for s in scores])]
    with numerics(model, 'bf16'):
        wanted = head.predict_by_feat(*outputs, metas, rescale=True)
        with dense_boxes.together(model) as fits:
            found = head.predict_by_feat(*outputs, metas, rescale=True)
    assert fits and sum(map(len, wanted)) > 20
    assert_equal(wanted, found)


def test_a_detector_without_a_dense_head_is_left_alone():
    with dense_boxes.together(torch.nn.Linear(1, 1)) as fits:
        assert not fits


def test_a_subclass_with_its_own_way_is_left_alone():
    head = make_head()
    own = type('Own', (type(head),), {'_bbox_post_process': lambda self, *a, **k: None})
    head.__class__ = own
    with dense_boxes.together(make_model(head)) as fits:
        assert not fits


def test_the_clamp_of_centres():
    head = make_head()
    head.bbox_coder.add_ctr_clamp, head.bbox_coder.ctr_clamp = True, 4
    scores, deltas, metas = make_outputs(head)
    assert_equal(*both(head, scores, [d * np.float32(3) for d in deltas], metas))
    head.bbox_coder.clip_border = False
    assert_equal(*both(head, scores, deltas, metas))
