"""The annotations that candidates are judged by, held against the images that are read.

mmdet goes by image ids, and by the order of categories: files that do not belong together give scores that look like
any other.
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

#: Pixels by which annotations of one image may differ: boxes in VOC's files begin at 1, in COCO's at 0.
_TOLERANCE = 2


def compare_truth(
    metric: BaseMetric,
    cfg: Any,
    dataset: Any,
    indices: Sequence[int],
    places: tuple[str, str] = ('evaluator.metric', 'evaluator.dataloader'),
) -> bool:
    """Lets COCO's metric judge by the images that are read alone, after a look whether its annotations are theirs.

    Args:
        metric: Any metric; those that do not go by image ids are left alone.
        cfg: Its config, or a list that holds it.
        dataset: Where images are read from.
        indices: Which of them are read.
        places: What metric and dataloader are called in the config.

    Returns:
        Whether the metric alone would judge in another way: by more images, or not by all boxes.

    Raises:
        ValueError: If an image id comes twice; or if the metric's annotation file lacks an image, has other boxes or
            classes for it, or numbers the classes in another way.
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
    if truth is None:  # it comes with the images
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
                    f'Image {info["img_id"]!r} ({info.get("img_path")}) has boxes in {source} that it does not have in '
                    f'{file} with the same classes, by which the metric judges. {_advice(places)}'
                )
        changed = _made_judgeable(truth)
        if len(ids) < len(truth.imgs):
            changed = True
            print_log(
                f'{len(ids)} of the {len(truth.imgs)} images of {file} are read; what is predicted is judged by these.',
                logger='current',
            )
    metric.img_ids = ids
    return changed


def _made_judgeable(truth: Any) -> bool:
    """Gives annotations of COCO's API what pycocotools judges by: whether any needed it.

    Without ``iscrowd`` it cannot judge, and a box of the id 0 it takes for one that nothing has found.
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
    return f'Give {places[0]}.ann_file the annotations of the images in {places[1]}.'


def check_ids(
    ids: Sequence[Any],
    known: Mapping[Any, Any] | None,
    read: str,
    judged: str = '',
    places: tuple[str, str] = ('evaluator.metric', 'evaluator.dataloader'),
) -> None:
    """Looks whether every image has an id of its own, which the annotations know.

    Args:
        ids: Of the images that are read.
        known: What has the ids of all annotated images for keys; None if they are not known.
        read: Where images are read from, for the message.
        judged: The file of the annotations, likewise.
        places: See :func:`compare_truth`.

    Raises:
        ValueError: If not; gives an example.
    """
    twice = [one for one, times in Counter(ids).items() if times > 1]
    if twice:
        raise DetNASError(
            f'{len(twice)} image ids come more than once in {read}, such as {twice[0]!r}: the metric would take these '
            f'images for one. Give each image an id of its own, and read it once.'
        )
    lacking = [] if known is None else [one for one in ids if one not in known]
    if lacking:
        raise DetNASError(
            f'{len(lacking)} of the {len(ids)} image ids of {read} are not in {judged}, by which the metric judges, '
            f'such as {lacking[0]!r}. {_advice(places)}'
        )


def check_categories(dataset: Any) -> None:
    """Looks whether labels have the meaning that ``metainfo.classes`` gives them, where mmdet goes by a COCO file.

    Raises:
        ValueError: If the file lists the classes in another order, or lacks one.
    """
    for part in parts(dataset):
        if hasattr(part, 'cat_ids') and str(part.ann_file).endswith('.json'):
            names, classes = _category_names(part), part.metainfo['classes']
            if {names.get(one) for one in part.cat_ids} <= set(classes):  # LVIS does not go by names
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
    """Refuses classes that are not the categories which mmdet finds for them in a COCO file.

    Args:
        file: The file.
        names: Names of its categories by id, in its order.
        cat_ids: Ids of those that are looked for, in its order; labels are places in this list.
        classes: The classes, in the order of their labels.
        where: Where these are set.

    Raises:
        DetNASError: If one is lacking, is the name of several categories, or has another label.
    """
    found = [names[one] for one in cat_ids]
    for name, times in Counter(found).items():
        if times > 1:
            ids = ', '.join(repr(one) for one in cat_ids if names[one] == name)
            raise DetNASError(
                f'{file} has {times} categories of the name {name!r} (ids {ids}), which {where} takes: mmdet would '
                f'give them different labels. Give each category a name of its own, or all annotations of {name!r} '
                f'one category_id.'
            )
    lacking = [name for name in classes if name not in found]
    if lacking:
        raise DetNASError(
            f'{file} lacks {len(lacking)} of the {len(classes)} names of {where}, such as {lacking[0]!r}; its '
            f'categories are {list(names.values())!r:.300}. Give metainfo=dict(classes=…) names of the file, in its '
            f'order.'
        )
    for label, (there, here) in enumerate(zip_longest(found, classes)):
        if there != here:
            raise DetNASError(
                f'Label {label} is {there!r} by {file}, and {here!r} by {where}: mmdet numbers labels in the order of '
                f'the file. List the categories of every file, and metainfo.classes, in the order of the training json.'
            )


def _has_boxes(info: Mapping[str, Any], annotations: Sequence[Any], labels: Mapping[Any, int]) -> bool:
    """Whether an image's boxes are in COCO's annotations of it, which may hold more."""
    boxes = [one for one in info.get('instances', ()) if 'bbox' in one]
    far = 1e6 if all('bbox_label' in one for one in boxes) else 0  # boxes of different labels lie far apart
    own = np.array([[*one['bbox'], far and far * one['bbox_label']] for one in boxes], dtype=float).reshape(-1, 5)
    there = [
        [*one['bbox'], far * labels.get(one['category_id'], -1)] for one in annotations if len(one.get('bbox', ())) == 4
    ]
    if not len(own) or not there:
        return not len(own)
    truth = np.array(there, dtype=float)
    truth[:, 2:4] += truth[:, :2]
    return bool((np.abs(own[:, None] - truth).max(-1).min(1) <= _TOLERANCE).all())
