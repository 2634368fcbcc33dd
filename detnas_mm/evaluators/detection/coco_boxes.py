"""COCO's evaluation of boxes on arrays, for one set of annotations and many sets of detections.

Computed by hotcoco (Rust) if it can be loaded, else by pycocotools. Their results are equal to the bit.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.logging import print_log

from detnas_mm.evaluators.temporary import quiet

#: Statistics that mmdet reports: table, IoU threshold (None: all), area range, and the index into ``proposal_nums`` of
#: the largest number of detections an image (None: 100, as in pycocotools).
_STATISTICS: dict[str, tuple[str, float | None, int, int | None]] = {
    'mAP': ('precision', None, 0, None),
    'mAP_50': ('precision', 0.5, 0, 2),
    'mAP_75': ('precision', 0.75, 0, 2),
    'mAP_s': ('precision', None, 1, 2),
    'mAP_m': ('precision', None, 2, 2),
    'mAP_l': ('precision', None, 3, 2),
    'AR@100': ('recall', None, 0, 0),
    'AR@300': ('recall', None, 0, 1),
    'AR@1000': ('recall', None, 0, 2),
    'AR_s@1000': ('recall', None, 1, 2),
    'AR_m@1000': ('recall', None, 2, 2),
    'AR_l@1000': ('recall', None, 3, 2),
}
#: Names of all statistics.
STATISTICS = tuple(_STATISTICS)


class CocoBoxes:
    """Box annotations against which detections are evaluated.

    Ids may be of any sortable type; engines get their ranks.

    Args:
        images: Ids of all images.
        categories: Ids of all categories.
        annotations: COCO annotations, each with ``image_id``, ``category_id``, ``bbox`` (x, y, width, height in
            pixels), ``area`` and optionally ``iscrowd``; in the order of the file, which breaks ties.
        engine: Result of :func:`find_engine`.
    """

    def __init__(
        self, images: Iterable[Any], categories: Iterable[Any], annotations: Iterable[Mapping[str, Any]], engine: Engine
    ) -> None:
        self.images = _ranks(images)
        self.categories = _ranks(categories)
        rows = list(annotations)
        truth = dict(
            image_ids=np.array([self.images[one['image_id']] for one in rows], dtype=int),
            category_ids=np.array([self.categories[one['category_id']] for one in rows], dtype=int),
            boxes=np.array([one['bbox'] for one in rows], dtype=float).reshape(-1, 4),
            area=np.array([one['area'] for one in rows], dtype=float),
            iscrowd=np.array([bool(one.get('iscrowd')) for one in rows], dtype=int),
        )
        self._engine = engine(truth, len(self.images), len(self.categories))

    def detections(self, results: Sequence[Mapping[str, Any]], categories: Sequence[Any]) -> np.ndarray:
        """Converts detections to an array for engines.

        Args:
            results: One entry for each image: ``img_id``, ``bboxes`` of shape (n, 4) as corners, ``scores`` and
                ``labels``, shape (n,).
            categories: Ids by label.

        Returns:
            Array of shape (detections, 7): image, x, y, width, height, score, category.
        """
        ranks = np.array([self.categories[one] for one in categories], dtype=float)
        out = np.empty((sum(len(result['labels']) for result in results), 7))
        first = 0
        for result in results:
            rows = out[first : first + len(result['labels'])]
            first += len(rows)
            rows[:, 0] = self.images[result['img_id']]
            rows[:, 1:5] = result['bboxes']
            rows[:, 5] = result['scores']
            rows[:, 6] = ranks[result['labels']]
        out[:, 3:5] -= out[:, 1:3]
        return out

    def evaluate(
        self,
        detections: np.ndarray,
        images: Sequence[Any],
        categories: Sequence[Any],
        iou_thrs: Sequence[float],
        max_dets: Sequence[int],
        use_cats: bool,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Evaluates one set of detections.

        Args:
            detections: See :meth:`detections`.
            images: Ids of the images to evaluate.
            categories: Ids of the categories to evaluate.
            iou_thrs: IoU thresholds.
            max_dets: Largest numbers of detections an image, ascending.
            use_cats: Whether a detection must have the category of its object; proposals need not.

        Returns:
            Precision of shape (thresholds, 101, categories, 4, numbers), categories in the order of their ids, and
            recall of shape (thresholds, categories, 4, numbers); -1 where there are no objects.
        """
        asked = _Asked(
            sorted(self.images[one] for one in images),
            sorted(self.categories[one] for one in categories),
            [float(one) for one in iou_thrs],
            [int(one) for one in max_dets],
            use_cats,
        )
        return self._engine.evaluate(detections, asked)


def statistics(
    precision: np.ndarray, recall: np.ndarray, iou_thrs: Sequence[float], max_dets: Sequence[int]
) -> dict[str, float]:
    """Computes the statistics of pycocotools' ``summarize``, by mmdet's names; -1 where there is nothing to average.

    Args:
        precision: See :meth:`CocoBoxes.evaluate`.
        recall: See :meth:`CocoBoxes.evaluate`.
        iou_thrs: The thresholds of both.
        max_dets: Their numbers of detections, ascending.
    """
    tables, numbers = dict(precision=precision, recall=recall), sorted(max_dets)
    out = {}
    for name, (table, threshold, area, place) in _STATISTICS.items():
        at = numbers.index(100) if place is None and 100 in numbers else place
        values = np.empty(0) if at is None or at >= len(numbers) else tables[table][..., area, at]
        if threshold is not None and values.size:
            values = values[np.asarray(iou_thrs) == threshold]
        out[name] = average(values)
    return out


def average(values: np.ndarray) -> float:
    """Returns the mean of the values that are not -1; -1 if there are none."""
    there = values[values > -1]
    return float(np.mean(there)) if there.size else -1.0


def _ranks(ids: Iterable[Any]) -> dict[Any, int]:
    return {one: rank for rank, one in enumerate(sorted(set(ids)))}


class _Asked(NamedTuple):
    """Settings of one evaluation; images and categories by their ranks, ascending."""

    images: list[int]
    categories: list[int]
    iou_thrs: list[float]
    max_dets: list[int]
    use_cats: bool


class _Hotcoco:
    """hotcoco's engine."""

    def __init__(self, truth: Mapping[str, Any], images: int, categories: int) -> None:
        import hotcoco

        self._eval = hotcoco.COCOeval
        # else it uses all cores; the variable is read at the first computation
        os.environ.setdefault('RAYON_NUM_THREADS', str(torch.get_num_threads()))
        names = [dict(id=one, name=str(one)) for one in range(categories)]
        self._truth = hotcoco.COCO.from_arrays([dict(id=one) for one in range(images)], names, **truth)

    def evaluate(self, detections: np.ndarray, asked: _Asked) -> tuple[np.ndarray, np.ndarray]:
        found = self._eval(self._truth, self._truth.load_res(detections), 'bbox')
        settings = found.params
        settings.img_ids, settings.cat_ids, settings.use_cats = asked.images, asked.categories, asked.use_cats
        settings.iou_thrs, settings.max_dets = asked.iou_thrs, asked.max_dets
        found.evaluate()
        found.accumulate()
        tables = found.eval or {}
        return np.asarray(tables['precision']), np.asarray(tables['recall'])


class _Pycocotools:
    """Evaluates with pycocotools."""

    def __init__(self, truth: Mapping[str, np.ndarray], images: int, categories: int) -> None:
        self._images = [dict(id=one) for one in range(images)]
        self._categories = [dict(id=one) for one in range(categories)]
        self._truth = self._coco(
            dict(image_id=image, category_id=category, bbox=box, area=area, iscrowd=crowd)
            for image, category, box, area, crowd in zip(*(column.tolist() for column in truth.values()), strict=True)
        )

    def _coco(self, rows: Iterable[dict[str, Any]]) -> Any:
        from pycocotools.coco import COCO

        out = COCO()
        annotations = [dict(row, id=number) for number, row in enumerate(rows, 1)]
        out.dataset = dict(images=self._images, categories=self._categories, annotations=annotations)
        with quiet():
            out.createIndex()
        return out

    def evaluate(self, detections: np.ndarray, asked: _Asked) -> tuple[np.ndarray, np.ndarray]:
        from pycocotools.cocoeval import COCOeval

        rows = (
            dict(image_id=int(row[0]), bbox=row[1:5], area=row[3] * row[4], score=row[5], category_id=int(row[6]))
            for row in detections.tolist()
        )
        found = COCOeval(self._truth, self._coco(dict(row, iscrowd=0) for row in rows), 'bbox')
        settings = found.params
        settings.imgIds, settings.catIds, settings.useCats = asked.images, asked.categories, int(asked.use_cats)
        settings.iouThrs, settings.maxDets = np.array(asked.iou_thrs), asked.max_dets
        with quiet():
            found.evaluate()
            found.accumulate()
        return found.eval['precision'], found.eval['recall']


Engine = type[_Hotcoco] | type[_Pycocotools]


def find_engine() -> Engine:
    """Returns hotcoco's engine, or pycocotools' where hotcoco cannot be loaded, which is logged."""
    try:
        import hotcoco  # noqa: F401
    except ImportError:
        print_log('hotcoco cannot be loaded: pycocotools computes the same values, which takes longer.', 'current')
        return _Pycocotools
    return _Hotcoco
