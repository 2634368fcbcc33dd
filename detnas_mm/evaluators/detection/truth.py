"""Checks that the annotations of a metric belong to the images that are read.

mmdet matches them by image id, and classes by the order of categories: files that do not belong together give scores
that look plausible.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.fileio import get_text
from mmengine.logging import print_log

from detnas_mm.datasets.coco_json import coco_categories
from detnas_mm.datasets.images import parts
from detnas_mm.errors import DetNASError

#: Pixels by which annotations of one image may differ: coordinates start at 1 in VOC files, at 0 in COCO files.
_TOLERANCE = 2


def compare_truth(
    metric: BaseMetric,
    cfg: Any,
    dataset: Any,
    indices: Sequence[int],
    places: tuple[str, str] = ('evaluator.metric', 'evaluator.dataloader'),
) -> bool:
    """Checks that the annotations of COCO's metric match the images that are read, and restricts it to these.

    Args:
        metric: Any metric; those that do not match by image id are not changed.
        cfg: Its config, or a list that holds it.
        dataset: The dataset whose images are read.
        indices: Indices of the images that are read.
        places: Keys of metric and dataloader in the config.

    Returns:
        True if the metric without this restriction would count other images or boxes.

    Raises:
        ValueError: If an image id occurs twice; or if the metric's annotation file lacks an image, or has other boxes,
            classes or class numbers for it.
    """
    changed = False
    if not hasattr(metric, 'img_ids'):
        return changed
    infos = [dataset.get_data_info(index) for index in indices]
    if not all('img_id' in info for info in infos):
        return False
    ids = [info['img_id'] for info in infos]
    truth = getattr(metric, '_coco_api', None)
    source = ', '.join(dict.fromkeys(str(getattr(part, 'ann_file', type(part).__name__)) for part in parts(dataset)))
    if truth is None:  # annotations are in the dataset
        check_ids(ids, None, source)
    else:
        file = str((cfg if isinstance(cfg, Mapping) else cfg[0])['ann_file'])
        check_ids(ids, truth.imgs, source, file, places)
        classes = metric.dataset_meta['classes']
        names = {key: category['name'] for key, category in truth.cats.items()}
        cat_ids = truth.getCatIds(catNms=classes)
        compare_classes(file, names, cat_ids, classes)
        labels = {key: label for label, key in enumerate(cat_ids)}
        for info in infos:
            if not _has_boxes(info, truth.imgToAnns.get(info['img_id'], ()), labels):
                raise DetNASError(
                    f'Image {info["img_id"]!r} ({info.get("img_path")}) has boxes in {source} that are not, with the '
                    f'same classes, in '
                    f'{file}, the annotations of the metric. {_advice(places)}'
                )
        changed = _made_judgeable(truth)
        if len(ids) < len(truth.imgs):
            changed = True
            print_log(
                f'{len(ids):,} of the {len(truth.imgs):,} images of {file} are read; the metric counts only these.',
                logger='current',
            )
    metric.img_ids = ids
    return changed


def _made_judgeable(truth: Any) -> bool:
    """Adds what pycocotools needs to annotations of COCO's API; returns True if any needed it.

    Without ``iscrowd`` it raises, and a box of id 0 always counts as missed.
    """
    bare = [one for one in truth.dataset.get('annotations', ()) if 'iscrowd' not in one]
    for one in bare:
        one['iscrowd'] = 0
    first = truth.anns.pop(0, None)
    if first is not None:
        first['id'] = max(truth.anns, default=0) + 1
        truth.anns[first['id']] = first
    return bool(bare) or first is not None


def _advice(places: tuple[str, str]) -> str:
    return f'Set {places[0]}.ann_file to the annotations of the images in {places[1]}.'


def check_ids(
    ids: Sequence[Any],
    known: Mapping[Any, Any] | None,
    read: str,
    judged: str = '',
    places: tuple[str, str] = ('evaluator.metric', 'evaluator.dataloader'),
) -> None:
    """Raises unless image ids are unique and in the annotations.

    Args:
        ids: Ids of the images that are read.
        known: Mapping or set of the ids of all annotated images; None if they are not known.
        read: Source of the images, for messages.
        judged: File of the annotations, for messages.
        places: See :func:`compare_truth`.

    Raises:
        ValueError: If not. The message gives an example.
    """
    twice = [one for one, times in Counter(ids).items() if times > 1]
    if twice:
        raise DetNASError(
            f'Image ids occur more than once in {read}, such as {twice[0]!r} ({len(twice):,} in all): the metric would '
            f'count these images as one. Give each image a unique id, and read it once.'
        )
    lacking = [] if known is None else [one for one in ids if one not in known]
    if lacking:
        raise DetNASError(
            f'{len(lacking):,} of the {len(ids):,} image ids of {read} are not in {judged}, the annotations of the '
            f'metric, such as {lacking[0]!r}. {_advice(places)}'
        )


def check_categories(dataset: Any) -> None:
    """Raises if mmdet numbers the labels of a COCO file in another order than ``metainfo.classes``.

    Raises:
        ValueError: If the file lists the classes in another order, or lacks one.
    """
    for part in parts(dataset):
        if hasattr(part, 'cat_ids') and str(part.ann_file).endswith('.json'):
            names, classes = _category_names(part), part.metainfo['classes']
            if {names.get(one) for one in part.cat_ids} <= set(classes):  # LVIS does not use names
                compare_classes(part.ann_file, names, part.cat_ids, classes)


def _category_names(dataset: Any) -> dict[Any, str]:
    if os.path.isfile(dataset.ann_file):
        return coco_categories(dataset.ann_file)
    return coco_categories(
        dataset.ann_file, get_text(dataset.ann_file, backend_args=getattr(dataset, 'backend_args', None))
    )


def compare_classes(
    file: str,
    names: Mapping[Any, str],
    cat_ids: Sequence[Any],
    classes: Sequence[str],
    where: str = 'metainfo.classes',
) -> None:
    """Raises if classes differ from the categories that mmdet selects for them in a COCO file.

    Args:
        file: The file.
        names: Names of its categories by id, in its order.
        cat_ids: Ids of the selected categories, in its order; labels are positions in this list.
        classes: The classes, in the order of their labels.
        where: Place where the classes are set.

    Raises:
        DetNASError: If a class is missing, is the name of several categories, or has another label.
    """
    found = [names[one] for one in cat_ids]
    for name, times in Counter(found).items():
        if times > 1:
            ids = ', '.join(repr(one) for one in cat_ids if names[one] == name)
            raise DetNASError(
                f'{file} has {times} categories named {name!r} (ids {ids}), which {where} selects: mmdet would '
                f'give them different labels. Give each category a unique name, or all annotations of {name!r} '
                f'one category_id.'
            )
    lacking = [name for name in classes if name not in found]
    if lacking:
        raise DetNASError(
            f'{file} lacks {len(lacking)} of the {len(classes)} names of {where}, such as {lacking[0]!r}; its '
            f'categories are {list(names.values())!r:.300}. Set metainfo=dict(classes=…) to names in the file, in its '
            f'order.'
        )
    for label, (there, here) in enumerate(zip_longest(found, classes)):
        if there != here:
            raise DetNASError(
                f'Label {label} is {there!r} in {file}, but {here!r} in {where}: mmdet numbers labels in the order of '
                f'the file. List the categories of every file, and metainfo.classes, in the order of the training json.'
            )


def _has_boxes(info: Mapping[str, Any], annotations: Sequence[Any], labels: Mapping[Any, int]) -> bool:
    """Returns True if all boxes of an image are in its COCO annotations, which may have more."""
    boxes = [one for one in info.get('instances', ()) if 'bbox' in one]
    far = 1e6 if all('bbox_label' in one for one in boxes) else 0  # moves boxes of different labels far apart
    own = np.array([[*one['bbox'], far and far * one['bbox_label']] for one in boxes], dtype=float).reshape(-1, 5)
    there = [
        [*one['bbox'], far * labels.get(one['category_id'], -1)] for one in annotations if len(one.get('bbox', ())) == 4
    ]
    if not len(own) or not there:
        return not len(own)
    truth = np.array(there, dtype=float)
    truth[:, 2:4] += truth[:, :2]
    return bool((np.abs(own[:, None] - truth).max(-1).min(1) <= _TOLERANCE).all())
