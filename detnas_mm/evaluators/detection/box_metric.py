"""mmdet's ``CocoMetric`` for boxes and proposals, computed from arrays, without rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmdet.evaluation import CocoMetric

from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.detection.coco_boxes import STATISTICS, CocoBoxes, Engine, average, find_engine, statistics

#: Statistics that mmdet reports by default.
_ITEMS = {'bbox': STATISTICS[:6], 'proposal': STATISTICS[6:]}


def computes(kind: Any, settings: Mapping[str, Any]) -> bool:
    """Returns True if :class:`BoxMetric` can replace a metric.

    Args:
        kind: Class of the metric; a subclass, which may compute something else, is not replaced.
        settings: Its arguments. Masks, fast recall and output files are left to mmdet.
    """
    wanted = settings.get('metric', 'bbox')
    kinds = {wanted} if isinstance(wanted, str) else set(wanted)
    plain = not settings.get('format_only') and settings.get('outfile_prefix') is None
    return kind.__name__ in ('CocoMetric', 'FasterCocoMetric') and kinds <= {'bbox', 'proposal'} and plain


class BoxMetric(CocoMetric):
    """Average precision of boxes and average recall of proposals, as ``CocoMetric`` names them.

    Args:
        *args: See mmdet's ``CocoMetric``.
        **kwargs: See there.

    Raises:
        DetNASError: If ``proposal_nums`` are not three numbers, ``iou_thrs`` no numbers, or ``metric_items`` unknown.
    """

    name = 'CocoMetric'
    engine = 'pycocotools'  # or one with equal results to the bit

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if len(self.proposal_nums) != 3:
            raise DetNASError(
                f'CocoMetric.proposal_nums must be three numbers, such as (100, 300, 1000); got {self.proposal_nums}.'
            )
        try:
            self._thresholds: list[float] = np.atleast_1d(np.asarray(self.iou_thrs, dtype=float)).tolist()
        except (TypeError, ValueError) as error:
            raise DetNASError(f'CocoMetric.iou_thrs must be numbers from 0 to 1; got {self.iou_thrs!r}.') from error
        unknown = [item for item in self.metric_items or () if item not in STATISTICS]
        if unknown:
            raise DetNASError(
                f'CocoMetric.metric_items has the unknown item {unknown[0]!r}. Items: {", ".join(STATISTICS)}.'
            )
        self._engine = find_engine()
        self._boxes: CocoBoxes | None = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """See mmdet.

        Raises:
            DetNASError: If there is no annotation file, and images have no annotations.
        """
        if self._coco_api is None and not all('instances' in sample for sample in data_samples):
            raise DetNASError(
                'CocoMetric has no ann_file, and images have no annotations. Set evaluator.metric.ann_file, or let '
                "the pipeline load them (LoadAnnotations, and 'instances' in PackDetInputs' meta_keys)."
            )
        super().process(data_batch, data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Returns values by name; none if there are no detections, NaN if a detection is not finite."""
        truths, predictions = zip(*results, strict=True)
        if self._coco_api is None:
            boxes, categories, images = _truth_of(truths, self.dataset_meta['classes'], self._engine)
            names = dict(enumerate(self.dataset_meta['classes']))
        else:
            boxes = self._boxes = self._boxes or CocoBoxes(
                self._coco_api.imgs, self._coco_api.cats, self._coco_api.dataset.get('annotations', ()), self._engine
            )
            categories = self.cat_ids or self._coco_api.get_cat_ids(cat_names=self.dataset_meta['classes'])
            images = self._coco_api.get_img_ids() if self.img_ids is None else self.img_ids
            names = {key: category['name'] for key, category in self._coco_api.cats.items()}
        detections = boxes.detections(predictions, categories)
        if not np.isfinite(detections).all():
            return {name: float('nan') for kind in self.metrics for name in self._names(kind)}
        found: dict[str, float] = {}
        for kind in self.metrics if len(detections) else ():
            tables = boxes.evaluate(
                detections, images, categories, self._thresholds, sorted(self.proposal_nums), use_cats=kind == 'bbox'
            )
            numbers = statistics(*tables, self._thresholds, self.proposal_nums)
            found |= {name: numbers[name.removeprefix('bbox_')] for name in self._names(kind)}
            if kind == 'bbox' and self.classwise:
                places = enumerate(sorted(categories))
                found |= {f'{names[one]}_precision': average(tables[0][:, :, at, 0, -1]) for at, one in places}
        return found

    def _names(self, kind: str) -> list[str]:
        prefix = 'bbox_' if kind == 'bbox' else ''
        return [f'{prefix}{item}' for item in self.metric_items or _ITEMS[kind]]


def _truth_of(
    truths: Sequence[Mapping[str, Any]], classes: Sequence[str], engine: Engine
) -> tuple[CocoBoxes, list, list]:
    """Collects the annotations that are in the results: boxes, categories (the labels) and images."""
    annotations = []
    for truth in truths:
        for one in truth['anns']:
            left, top, right, bottom = map(float, one['bbox'])
            width, height = right - left, bottom - top
            annotations.append(
                dict(
                    image_id=truth['img_id'],
                    category_id=int(one['bbox_label']),
                    bbox=[left, top, width, height],
                    area=width * height,
                    iscrowd=one.get('ignore_flag', 0),
                )
            )
    images = [truth['img_id'] for truth in truths]
    categories = list(range(len(classes)))
    return CocoBoxes(images, categories, annotations, engine), categories, images
