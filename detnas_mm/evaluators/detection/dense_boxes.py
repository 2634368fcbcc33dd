"""Boxes from the outputs of a one-stage head, for all images of a batch at once.

mmdet does this image by image and level by level, in about a hundred small operations each: on small images that is a
large part of a candidate's time. Here element-wise operations run once for the whole batch. Results equal mmdet's to
the
bit: functions whose last bit depends on the position in the array (sigmoid, softmax, exp: vector instructions for the
body, others for the rest) and the order of equal scores are computed image by image, as in mmdet.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from mmcv.ops.nms import NMSop, batched_nms
from mmengine.structures import InstanceData
from torch import Tensor, nn

from detnas_mm.config_types import is_other
from detnas_mm.evaluators.temporary import replaced

#: Number of boxes from which mmcv suppresses class by class.
_SPLIT = 10_000


@contextlib.contextmanager
def together(model: nn.Module) -> Iterator[bool]:
    """Lets a one-stage head make the boxes of a batch at once if results are equal; yields True if they are."""
    head: Any = getattr(model, 'bbox_head', None)
    fits = head is not None and _works_as_expected(head)
    with contextlib.ExitStack() as stack:
        if fits:
            stack.enter_context(replaced(head, 'predict_by_feat', partial(_predict, head, head.predict_by_feat)))
        yield fits


def _works_as_expected(head: Any) -> bool:
    """Returns True if :func:`_predict` equals a head: mmdet's own methods, coder and NMS, one score a class."""
    from mmdet.models.dense_heads.base_dense_head import BaseDenseHead

    if not isinstance(head, BaseDenseHead):
        return False
    own = ('predict_by_feat', '_predict_by_feat_single', '_bbox_post_process')
    return (
        all(getattr(type(head), name) is getattr(BaseDenseHead, name) for name in own)
        and standard_coder(head)
        and not getattr(head.loss_cls, 'custom_cls_channels', False)
        and plain_nms(head.test_cfg)
    )


def standard_coder(head: Any) -> bool:
    """Returns True if :func:`decode` equals a head's box coder."""
    from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder

    return type(getattr(head, 'bbox_coder', None)) is DeltaXYWHBBoxCoder and not head.bbox_coder.use_box_type


def plain_nms(cfg: Any) -> bool:
    """Returns True if :func:`suppress` equals the NMS of test settings."""
    nms = (cfg or {}).get('nms') or {}
    return is_other(nms, 'nms') and set(nms) <= {'type', 'iou_threshold'}


def _predict(
    head: Any,
    original: Callable[..., list[InstanceData]],
    cls_scores: Sequence[Tensor],
    bbox_preds: Sequence[Tensor],
    score_factors: None = None,
    batch_img_metas: Sequence[Mapping[str, Any]] = (),
    cfg: Any = None,
    rescale: bool = False,
    with_nms: bool = True,
) -> list[InstanceData]:
    """Replaces mmdet's ``BaseDenseHead.predict_by_feat``, which is ``original``."""
    if score_factors is not None or not with_nms:
        return original(cls_scores, bbox_preds, score_factors, batch_img_metas, cfg, rescale, with_nms)
    cfg = head.test_cfg if cfg is None else cfg
    levels = [_select(head, cfg, *level) for level in levels_of(head, cls_scores, bbox_preds)]
    images, scores, labels, deltas, anchors = (torch.cat(parts) for parts in zip(*levels, strict=True))
    order = torch.argsort(images, stable=True)  # image by image, and in each level by level
    images, scores, labels, deltas, anchors = (x[order] for x in (images, scores, labels, deltas, anchors))
    counts = torch.bincount(images, minlength=len(batch_img_metas)).tolist()
    boxes = decode(head.bbox_coder, anchors, deltas, counts, images, batch_img_metas)
    if rescale:
        boxes = rescaled(boxes, images, batch_img_metas)
    return suppress(cfg, boxes, scores, labels, images, len(batch_img_metas), cfg.get('min_bbox_size', -1))


def levels_of(
    head: Any, cls_scores: Sequence[Tensor], bbox_preds: Sequence[Tensor]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yields a head's outputs of each level, in float32, with its priors of shape (number, 4)."""
    # Under autocast a head gives half precision, in which boxes of large images are a pixel off.
    cls_scores, bbox_preds = [x.float() for x in cls_scores], [x.float() for x in bbox_preds]
    priors = head.prior_generator.grid_priors(
        [scores.shape[-2:] for scores in cls_scores], dtype=cls_scores[0].dtype, device=cls_scores[0].device
    )
    return zip(cls_scores, bbox_preds, priors, strict=True)


def rescaled(boxes: Tensor, images: Tensor, metas: Sequence[Mapping[str, Any]]) -> Tensor:
    """Scales boxes back to the images before resizing; ``images`` is the image number of each box."""
    return boxes * boxes.new_tensor([[1 / s for s in meta['scale_factor']] * 2 for meta in metas])[images]


def suppress(
    cfg: Any, boxes: Tensor, scores: Tensor, labels: Tensor, images: Tensor, count: int, smallest: float = -1
) -> list[InstanceData]:
    """Removes boxes that are too small, and applies NMS like mmcv's ``batched_nms``: classes are moved apart.

    Args:
        cfg: Settings: ``nms`` and ``max_per_img``.
        boxes: Shape (n, 4), image by image.
        scores: Shape (n,).
        labels: Shape (n,); boxes of different labels do not suppress each other.
        images: Shape (n,): image number of each box.
        count: Number of images.
        smallest: Width and height that a box must exceed; below 0 none is removed.

    Returns:
        The boxes left of each image.
    """
    if smallest >= 0:
        width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        valid = (width > smallest) & (height > smallest)
        boxes, scores, labels, images = boxes[valid], scores[valid], labels[valid], images[valid]
    counts = torch.bincount(images, minlength=count).tolist()
    largest = [own.max() if len(own) else boxes.new_zeros(()) for own in boxes.split(counts)]
    apart = boxes + (labels.to(boxes) * (torch.stack(largest) + 1)[images])[:, None]
    results = []
    parts = (x.split(counts) for x in (apart, boxes, scores, labels))
    for moved, *own in zip(*parts, strict=True):
        if len(moved) < _SPLIT:
            keep = NMSop.apply(moved, own[1], cfg.nms.iou_threshold, 0, 0, -1) if len(moved) else labels[:0]
        else:
            keep = batched_nms(*own, cfg.nms)[1]
        keep = keep[: cfg.max_per_img]
        results.append(InstanceData(bboxes=own[0][keep], scores=own[1][keep], labels=own[2][keep]))
    return results


def _select(
    head: Any, cfg: Any, cls_score: Tensor, bbox_pred: Tensor, priors: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Selects the best candidates of one level, image by image: image, score, label, deltas and prior of each."""
    count = len(cls_score)
    logits = cls_score.permute(0, 2, 3, 1).reshape(count, -1, head.cls_out_channels)
    if head.use_sigmoid_cls:
        activated = [one.sigmoid() for one in logits]
    else:
        activated = [one.softmax(-1)[:, :-1] for one in logits]
    scores = torch.stack(activated)
    mask = scores > cfg.get('score_thr', 0)
    places = mask.nonzero()
    valid = scores[mask]
    chosen, values, first = [], [], 0
    for number in mask.flatten(1).sum(1).tolist():
        value, order = valid[first : first + number].sort(descending=True)
        kept = min(cfg.get('nms_pre', -1), number)
        values.append(value[:kept])
        chosen.append(order[:kept] + first)
        first += number
    image, place, label = places[torch.cat(chosen)].unbind(1)
    deltas = bbox_pred.permute(0, 2, 3, 1).reshape(count, -1, 4)
    return image, torch.cat(values), label, deltas[image, place], priors[place]


def decode(
    coder: Any,
    anchors: Tensor,
    deltas: Tensor,
    counts: Sequence[int],
    images: Tensor,
    metas: Sequence[Mapping[str, Any]],
) -> Tensor:
    """Decodes anchors and deltas to boxes (x1, y1, x2, y2), like mmdet's ``delta2bbox``."""
    deltas = deltas * deltas.new_tensor(coder.stds).view(1, -1) + deltas.new_tensor(coder.means).view(1, -1)
    centre = (anchors[:, :2] + anchors[:, 2:]) * 0.5
    size = anchors[:, 2:] - anchors[:, :2]
    shift, stretch = size * deltas[:, :2], deltas[:, 2:]
    max_ratio = np.abs(np.log(16 / 1000))
    if coder.add_ctr_clamp:
        shift = torch.clamp(shift, max=coder.ctr_clamp, min=-coder.ctr_clamp)
        stretch = torch.clamp(stretch, max=max_ratio)
    else:
        stretch = stretch.clamp(min=-max_ratio, max=max_ratio)
    grown = size * torch.cat([part.exp() for part in stretch.split(counts)])
    centre = centre + shift
    boxes = torch.cat([centre - grown * 0.5, centre + grown * 0.5], -1)
    if coder.clip_border:
        sides = boxes.new_tensor([[*meta['img_shape'][1::-1]] * 2 for meta in metas])
        boxes = torch.minimum(boxes.clamp(min=0), sides[images])
    return boxes
