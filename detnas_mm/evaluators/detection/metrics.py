"""Unrounded scores out of OpenMMLab's metrics."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmengine.registry import METRICS

from detnas_mm.config_types import comparable, is_other
from detnas_mm.errors import DetNASError, expected_errors
from detnas_mm.evaluators.detection.truth import check_ids
from detnas_mm.evaluators.temporary import quiet, replaced

#: Positions in ``COCOeval.stats`` as mmdet names them.
_COCO_STATS = {
    'mAP': 0, 'mAP_50': 1, 'mAP_75': 2, 'mAP_s': 3, 'mAP_m': 4, 'mAP_l': 5,
    'AR@100': 6, 'AR@300': 7, 'AR@1000': 8, 'AR_s@1000': 9, 'AR_m@1000': 10, 'AR_l@1000': 11,
}  # fmt: skip


def build_metric(cfg: Any, dataset_meta: Any) -> BaseMetric:
    """Builds one metric of mmdet, mmpretrain, …, or what takes its place: see :func:`available`.

    Raises:
        ValueError: If more than one metric is asked for, or there is no such metric.
    """
    if isinstance(cfg, Sequence):
        if len(cfg) != 1:
            raise DetNASError(f'The evaluator takes one metric; got {len(cfg)}: {[c.get("type") for c in cfg]}.')
        cfg = cfg[0]
    cfg = available(cfg)
    try:
        with expected_errors():
            metric = METRICS.build(cfg)
    except KeyError as error:
        if 'registry' not in str(error):
            raise
        raise DetNASError(
            f'There is no metric {cfg.get("type")!r}; mmdet has CocoMetric, VOCMetric and others, mmpretrain Accuracy.'
        ) from error
    metric.dataset_meta = dataset_meta
    return metric


def available(cfg: Any) -> Any:
    """The metric's config; ``FasterCocoMetric`` becomes ``CocoMetric`` where the family at hand does not have it."""
    if not isinstance(cfg, Mapping):
        return [available(one) for one in cfg]
    cfg = dict(cfg)
    if is_other(cfg, 'FasterCocoMetric') and not _has_faster_coco():
        MMLogger.get_current_instance().info('FasterCocoMetric is not in this mmdet; CocoMetric takes its place.')
        cfg['type'] = 'mmdet.CocoMetric'
    return cfg


def metric_digest(cfg: Any) -> str:
    """Changes with a metric's settings and with what its files hold, but not with where they lie."""

    def content(value: Any) -> str:
        if isinstance(value, str) and os.path.isfile(value):
            with open(value, 'rb') as file:
                return hashlib.file_digest(file, 'sha256').hexdigest()
        return str(value)

    return hashlib.sha256(repr(comparable(available(cfg), content)).encode()).hexdigest()[:16]


def _has_faster_coco() -> bool:
    """Whether mmdet has the metric, and the library that it calls is installed."""
    try:
        from mmdet.evaluation.metrics import faster_coco_metric as module
    except ImportError:
        return False
    return getattr(module, 'COCOeval_faster', None) is not None


def compute(metric: BaseMetric, results: list, part: bool = False) -> dict[str, float]:
    """The metric's values, unrounded, under the names that mmengine's logs use.

    mmdet's COCO metrics keep their COCOeval to themselves and return three decimals; ranking by these would tie
    candidates that differ. So the COCOeval classes of the metric's module are watched while it computes.

    Args:
        metric: The metric.
        results: What its ``process`` collected, of all images.
        part: Whether the results are of some images only; what others show is no miss then.

    Returns:
        Values by name, such as ``'coco/bbox_mAP'``, without those that COCO has nothing to judge by, such as that of
        large boxes where there are none; empty if there were no detections.

    Raises:
        ValueError: If COCO's metric had nothing to judge all images by, and gives -1 to whatever is detected; or if
            results are not of its images, each once.
    """
    _check_images(metric, results)
    stats: dict[str, Sequence[float]] = {}
    with (
        quiet(), _without_collection(), _watching_coco_eval(metric, stats), _without_json(metric),
        _limited(metric, results, part), _as_given(metric, '_coco_api'),
    ):  # fmt: skip
        values: Mapping[str, Any] = metric.compute_metrics(results)
    if not part and any(numbers[0] == -1 for numbers in stats.values()):
        raise DetNASError(
            f'{type(metric).__name__} finds no box in its annotations, so nothing tells candidates apart. Give a '
            f'search-val with boxes.'
        )
    exact: dict[str, float] = {}
    for name, value in values.items():
        kind, _, item = name.partition('_')
        if kind in stats and item in _COCO_STATS:
            unrounded = float(stats[kind][_COCO_STATS[item]])
            if abs(unrounded - value) > 5.1e-4:
                raise DetNASError(
                    f'{type(metric).__name__} returned {name} = {value}, its COCOeval {unrounded}: the order of the '
                    f'statistics in this version of mmdet is another one than expected.'
                )
            if unrounded == -1 and not part:
                continue
            value = unrounded
        exact[f'{metric.prefix}/{name}' if metric.prefix else name] = float(value)
    return exact


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Keeps Python's collector from looking for cycles among thousands of boxes: a third of the time went there."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _check_images(metric: BaseMetric, results: list) -> None:
    """COCO's own check, which :func:`_load_results` leaves out; a pipeline may have read other images than it says."""
    if hasattr(metric, 'img_ids'):
        truth = getattr(metric, '_coco_api', None)
        check_ids(
            [result['img_id'] for _, result in results], truth and truth.imgs,
            'what was read (a pipeline that drops an image has another one read)', 'the annotations',
        )  # fmt: skip


@contextlib.contextmanager
def _limited(metric: BaseMetric, results: list, part: bool) -> Iterator[None]:
    """Lets a COCO metric look at the images of the results alone, where they are a part."""
    if not part or not hasattr(metric, 'img_ids'):
        yield
        return
    with replaced(metric, 'img_ids', [result['img_id'] for _, result in results]):
        yield


@contextlib.contextmanager
def _as_given(metric: BaseMetric, name: str) -> Iterator[None]:
    """Puts an attribute back: COCO's metric without an annotation file would keep the truth of the first results."""
    given = {name: vars(metric)[name]} if name in vars(metric) else {}
    try:
        yield
    finally:
        vars(metric).update(given)


@contextlib.contextmanager
def _without_json(metric: BaseMetric) -> Iterator[None]:
    """Hands boxes to COCO's evaluation as they are: mmdet writes them to a JSON file, and reads them again."""
    original = getattr(metric, 'results2json', None)
    modules = [sys.modules[cls.__module__] for cls in type(metric).__mro__]
    modules = [module for module in modules if hasattr(module, 'load')]
    wanted = getattr(metric, 'outfile_prefix', None) is not None or getattr(metric, 'format_only', False)
    unready = getattr(metric, '_coco_api', metric) is None  # the truth comes with the results, and goes the same way
    if original is None or not modules or wanted or unready:
        yield
        return

    def results(results: Sequence[Mapping[str, Any]], prefix: str) -> dict[str, Any]:
        if any('masks' in result for result in results):
            return original(results, prefix)
        boxes = _Boxes(row for result in results for row in _coco_boxes(result, metric.cat_ids))
        return dict(bbox=boxes, proposal=boxes)

    def load(file: Any, read: Callable[[str], Any]) -> Any:
        return read(file) if isinstance(file, str) else file

    with contextlib.ExitStack() as stack:
        stack.enter_context(replaced(metric, 'results2json', results))
        if hasattr(metric, '_coco_api'):
            stack.enter_context(replaced(metric._coco_api, 'loadRes', partial(_load_results, metric._coco_api)))
        for module in modules:
            stack.enter_context(replaced(module, 'load', partial(load, read=module.load)))
        yield


class _Boxes(list):
    """Boxes that :func:`_load_results` knows to be complete."""


def _coco_boxes(result: Mapping[str, Any], cat_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
    """One image's boxes as COCO keeps results that it has read, to the bit what mmdet writes."""
    boxes = result['bboxes'].astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    image, areas = result['img_id'], (boxes[:, 2] * boxes[:, 3]).tolist()
    rows = zip(boxes.tolist(), areas, result['scores'].tolist(), result['labels'].tolist(), strict=True)
    for box, area, score, label in rows:
        yield dict(image_id=image, bbox=box, score=score, category_id=cat_ids[label], area=area, iscrowd=0)


def _load_results(truth: Any, predictions: Any) -> Any:
    """COCO's ``loadRes``, which copies its images and makes an outline of every box, for what needs no outlines."""
    if not isinstance(predictions, _Boxes):
        return type(truth).loadRes(truth, predictions)
    if not predictions:
        raise IndexError('no detections')  # as COCO does, which mmdet expects
    results = type(truth)()
    for number, box in enumerate(predictions, 1):
        box['id'] = number
    results.dataset = truth.dataset | dict(annotations=predictions)
    results.createIndex()
    return results


@contextlib.contextmanager
def _watching_coco_eval(metric: BaseMetric, stats: dict[str, Sequence[float]]) -> Iterator[None]:
    """Notes ``stats`` of every COCOeval that the metric makes, by IoU type."""
    with contextlib.ExitStack() as stack:
        for cls in type(metric).__mro__:
            module = sys.modules.get(cls.__module__)
            for name in ('COCOeval', 'COCOevalMP', 'COCOeval_faster'):
                original = getattr(module, name, None)
                if isinstance(original, type):
                    stack.enter_context(replaced(module, name, _watched(original, stats)))
        yield


def _watched(original: type, stats: dict[str, Sequence[float]]) -> type:
    def summarize(self: Any) -> Any:
        result = original.summarize(self)  # type: ignore[attr-defined]
        stats[self.params.iouType if self.params.useCats else 'proposal'] = list(self.stats)
        return result

    return type(original.__name__, (original,), {'summarize': summarize})
