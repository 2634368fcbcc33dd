"""Proposals and boxes from the outputs of a two-stage detector's heads, for all images of a batch at once.

Like :mod:`dense_boxes` for one-stage heads, but for mmdet's RPN and the box heads of its RoI heads; results equal
mmdet's to the bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from detnas_mm.evaluators.detection.dense_boxes import (
    decode,
    levels_of,
    plain_nms,
    rescaled,
    standard_coder,
    suppress,
)
from detnas_mm.evaluators.temporary import replaced


@contextlib.contextmanager
def together(model: nn.Module) -> Iterator[int]:
    """Lets RPN and box heads process a batch at once if results are equal; yields the number of heads that do."""
    with contextlib.ExitStack() as stack:
        rpn: Any = getattr(model, 'rpn_head', None)
        works: list[Any] = [(rpn, _propose)] if rpn is not None and _proposes_as_expected(rpn) else []
        roi_head: Any = getattr(model, 'roi_head', None)
        inside = () if roi_head is None else roi_head.modules()
        works += [(head, _classify) for head in inside if _classifies_as_expected(head)]
        for head, predict in works:
            stack.enter_context(replaced(head, 'predict_by_feat', partial(predict, head, head.predict_by_feat)))
        yield len(works)


def _proposes_as_expected(head: Any) -> bool:
    """Returns True if :func:`_propose` equals an RPN."""
    from mmdet.models.dense_heads import RPNHead
    from mmdet.models.dense_heads.base_dense_head import BaseDenseHead

    kind = type(head)
    return (
        isinstance(head, RPNHead)
        and kind.predict_by_feat is BaseDenseHead.predict_by_feat
        and kind._predict_by_feat_single is RPNHead._predict_by_feat_single
        and kind._bbox_post_process is RPNHead._bbox_post_process
        and standard_coder(head)
        and plain_nms(head.test_cfg)
    )


def _classifies_as_expected(head: Any) -> bool:
    """Returns True if :func:`_classify` equals a box head."""
    from mmdet.models.roi_heads.bbox_heads import BBoxHead

    own = ('predict_by_feat', '_predict_by_feat_single')
    return (
        isinstance(head, BBoxHead)
        and all(getattr(type(head), name) is getattr(BBoxHead, name) for name in own)
        and head.with_reg
        and not head.custom_cls_channels
        and standard_coder(head)
    )


def _propose(
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
    """Replaces a method of mmdet's ``RPNHead``, ``original``: the best of each level, with NMS in each level."""
    cfg = head.test_cfg if cfg is None else cfg
    if score_factors is not None or not with_nms or not plain_nms(cfg):
        return original(cls_scores, bbox_preds, score_factors, batch_img_metas, cfg, rescale, with_nms)
    count = len(batch_img_metas)
    rows = torch.arange(count, device=cls_scores[0].device)[:, None]
    parts = []
    for level, (cls_score, bbox_pred, prior) in enumerate(levels_of(head, cls_scores, bbox_preds)):
        logits = cls_score.permute(0, 2, 3, 1).reshape(count, -1, head.cls_out_channels)
        activated = [one.sigmoid()[:, 0] if head.use_sigmoid_cls else one.softmax(-1)[:, 0] for one in logits]
        deltas = bbox_pred.permute(0, 2, 3, 1).reshape(count, -1, 4)
        kept = cfg.get('nms_pre', -1)
        if 0 < kept < len(prior):
            ranked = [one.sort(descending=True) for one in activated]
            best, chosen = (torch.stack([one[:kept] for one in part]) for part in zip(*ranked, strict=True))
            deltas, anchors = deltas[rows, chosen], prior[chosen]
        else:
            best, anchors = torch.stack(activated), prior.expand(count, -1, -1)
        parts.append((best, torch.full_like(best, level, dtype=torch.long), deltas, anchors))
    scores, levels, deltas, anchors = (torch.cat(part, 1).flatten(0, 1) for part in zip(*parts, strict=True))
    counts = [len(scores) // count] * count
    images = rows.expand(-1, counts[0]).flatten()
    boxes = decode(head.bbox_coder, anchors, deltas, counts, images, batch_img_metas)
    if rescale:
        boxes = rescaled(boxes, images, batch_img_metas)
    results = suppress(cfg, boxes, scores, levels, images, count, cfg.get('min_bbox_size', -1))
    for result in results:
        result.labels = torch.zeros_like(result.labels)
    return results


def _classify(
    head: Any,
    original: Callable[..., list[InstanceData]],
    rois: Sequence[Tensor],
    cls_scores: Sequence[Tensor],
    bbox_preds: Sequence[Tensor],
    batch_img_metas: Sequence[Mapping[str, Any]],
    rcnn_test_cfg: Any = None,
    rescale: bool = False,
) -> list[InstanceData]:
    """Replaces mmdet's ``BBoxHead.predict_by_feat``, which is ``original``."""
    cfg = rcnn_test_cfg
    if cfg is None or not plain_nms(cfg) or cfg.get('max_per_img', -1) < 1:
        return original(rois, cls_scores, bbox_preds, batch_img_metas, cfg, rescale)
    counts = [len(one) for one in rois]
    regions = torch.cat(list(rois))[:, 1:]
    images = torch.arange(len(counts), device=regions.device).repeat_interleave(
        torch.tensor(counts, device=regions.device)
    )
    scores = torch.cat([one.softmax(-1) for one in cls_scores])[:, :-1]
    each = 1 if head.reg_class_agnostic else head.num_classes  # boxes of a RoI
    deltas, owners = torch.cat(list(bbox_preds)).view(-1, 4), images.repeat_interleave(each)
    boxes = decode(
        head.bbox_coder, regions.repeat_interleave(each, 0), deltas, [n * each for n in counts], owners, batch_img_metas
    )
    if rescale:
        boxes = rescaled(boxes, owners, batch_img_metas)
    boxes = boxes.view(-1, each, 4).expand(-1, head.num_classes, 4)
    mask = scores > cfg.score_thr
    region, label = mask.nonzero().unbind(1)
    return suppress(cfg, boxes[region, label], scores[mask], label, images[region], len(counts))
