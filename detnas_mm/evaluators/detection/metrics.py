"""Unrounded values of OpenMMLab's metrics."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmengine.registry import METRICS, DefaultScope

from detnas_mm.config_types import comparable, is_other, resolve_type
from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.detection.coco_boxes import STATISTICS
from detnas_mm.evaluators.detection.truth import check_ids
from detnas_mm.evaluators.temporary import quiet, replaced
from detnas_mm.registry import building, unknown_arguments


def build_metric(cfg: Any, dataset_meta: Any) -> BaseMetric:
    """Builds one metric of mmdet, mmpretrain, …; CocoMetric of boxes and proposals is computed by this package.

    Raises:
        ValueError: If there is more than one metric, the metric is unknown, or an argument does not fit.
    """
    cfg = _one(cfg)
    with building('search.evaluator.metric'):
        metric = _box_metric(cfg) or METRICS.build(available(cfg))
    metric.dataset_meta = dataset_meta
    return metric


def _one(cfg: Any) -> Any:
    if not isinstance(cfg, Sequence):
        return cfg
    if len(cfg) != 1:
        raise DetNASError(
            f'search.evaluator.metric must be exactly one metric; got {len(cfg)}: {[c.get("type") for c in cfg]}.'
        )
    return cfg[0]


def _box_metric(cfg: Any) -> BaseMetric | None:
    """Builds CocoMetric as this package computes it; None for what mmdet computes: masks, files, subclasses."""
    scope = DefaultScope.get_current_instance()
    kind = resolve_type(cfg, METRICS, scope and scope.scope_name)
    if not str(getattr(kind, '__module__', '')).startswith('mmdet.'):
        return None
    from detnas_mm.evaluators.detection.box_metric import BoxMetric, computes

    args = {key: value for key, value in cfg.items() if key not in ('type', '_scope_')}
    refusal = unknown_arguments(kind, args)
    if refusal:
        raise DetNASError(f'search.evaluator.metric: {refusal}')
    if not computes(kind, args):
        return None
    if is_other(cfg, 'FasterCocoMetric'):
        MMLogger.get_current_instance().info(
            "FasterCocoMetric: the search computes COCO's metric itself; exported configs keep FasterCocoMetric."
        )
    return BoxMetric(**args)


def available(cfg: Any) -> Any:
    """Returns the metric's config; ``FasterCocoMetric`` becomes ``CocoMetric`` if mmdet does not have it."""
    if not isinstance(cfg, Mapping):
        return [available(one) for one in cfg]
    cfg = dict(cfg)
    if is_other(cfg, 'FasterCocoMetric') and not _has_faster_coco():
        MMLogger.get_current_instance().info('FasterCocoMetric is not in this mmdet; CocoMetric takes its place.')
        cfg['type'] = 'mmdet.CocoMetric'
    return cfg


def metric_spec(metric: BaseMetric, cfg: Any) -> dict[str, str]:
    """Returns what must be equal for rows to be comparable: the metric's name, its implementation and a digest.

    The digest depends on its settings and on the content of its files, but not on their paths.

    Args:
        metric: The metric.
        cfg: Its config.
    """

    def content(value: Any) -> str:
        if isinstance(value, str) and os.path.isfile(value):
            with open(value, 'rb') as file:
                return hashlib.file_digest(file, 'sha256').hexdigest()
        return str(value)

    settings = repr(comparable(_one(cfg), content, skip=('type', '_scope_')))
    engine = getattr(metric, 'engine', type(metric).__module__.partition('.')[0])
    return dict(
        metric=getattr(metric, 'name', type(metric).__name__),
        metric_engine=engine,
        metric_digest=hashlib.sha256(settings.encode()).hexdigest()[:16],
    )


def _has_faster_coco() -> bool:
    """Returns True if mmdet has FasterCocoMetric and its library is installed."""
    try:
        from mmdet.evaluation.metrics import faster_coco_metric as module
    except ImportError:
        return False
    return getattr(module, 'COCOeval_faster', None) is not None


def compute(metric: BaseMetric, results: list, part: bool = False) -> dict[str, float]:
    """Computes the metric's values, unrounded, under the names of mmengine's logs.

    Args:
        metric: The metric.
        results: Results that its ``process`` collected, of all images.
        part: True if the results are of some images only; objects of other images then do not count as missed.

    Returns:
        Values by name, such as ``'coco/bbox_mAP'``, without those that have no objects to evaluate, such as that of
        large boxes if there are none; empty if there were no detections.

    Raises:
        ValueError: If there are no objects at all, so that COCO's metric is always -1; or if the results do not have
            each image exactly once.
    """
    _check_images(metric, results)
    stats: dict[str, Sequence[float]] = {}
    with quiet(), _watching_coco_eval(metric, stats), _limited(metric, results, part), _as_given(metric, '_coco_api'):
        values: Mapping[str, Any] = metric.compute_metrics(results)
    exact: dict[str, float] = {}
    for name, value in values.items():
        kind, _, item = name.partition('_')
        number = stats[kind][STATISTICS.index(item)] if kind in stats and item in STATISTICS else value
        if abs(number - value) > 5.1e-4:
            raise DetNASError(
                f'{type(metric).__name__} returned {name} = {value}, but its COCOeval {number}: the order of the '
                f'statistics in this version of mmdet is not the expected one. Use a supported version.'
            )
        exact[f'{metric.prefix}/{name}' if metric.prefix else name] = float(number)
    if part or not hasattr(metric, 'img_ids'):
        return exact
    if exact and all(number == -1 for number in exact.values()):
        raise DetNASError(
            f'{getattr(metric, "name", type(metric).__name__)} finds no box in its annotations, so it cannot rank '
            f'candidates. Give a search-val with boxes.'
        )
    return {name: number for name, number in exact.items() if number != -1}


def _check_images(metric: BaseMetric, results: list) -> None:
    """Raises if results are of other images than the annotations, as with a pipeline that replaces images."""
    if hasattr(metric, 'img_ids'):
        truth = getattr(metric, '_coco_api', None)
        check_ids(
            [result['img_id'] for _, result in results], truth and truth.imgs,
            'the images that were read (a pipeline that drops an image loads another one)', 'the annotations',
        )  # fmt: skip


@contextlib.contextmanager
def _limited(metric: BaseMetric, results: list, part: bool) -> Iterator[None]:
    """Restricts a COCO metric to the images of the results, if these are a part."""
    if not part or not hasattr(metric, 'img_ids'):
        yield
        return
    with replaced(metric, 'img_ids', [result['img_id'] for _, result in results]):
        yield


@contextlib.contextmanager
def _as_given(metric: BaseMetric, name: str) -> Iterator[None]:
    """Restores an attribute: without annotation file mmdet's metric would keep the annotations of the first results."""
    given = {name: vars(metric)[name]} if name in vars(metric) else {}
    try:
        yield
    finally:
        vars(metric).update(given)


@contextlib.contextmanager
def _watching_coco_eval(metric: BaseMetric, stats: dict[str, Sequence[float]]) -> Iterator[None]:
    """Records ``stats`` of every COCOeval of mmdet's metric, by IoU type, since the metric rounds them."""
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
