"""The annotations that candidates are judged by, held against the images that are read.

mmdet goes by image ids, and by the order of categories: files that do not belong together give scores that look like
any other.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.fileio import get_text
from mmengine.logging import print_log

from detnas_mm.errors import DetNASError

#: Pixels by which annotations of one image may differ: boxes in VOC's files begin at 1, in COCO's at 0.
_TOLERANCE = 2


def compare_truth(metric: BaseMetric, cfg: Any, dataset: Any, indices: Sequence[int]) -> None:
    """Lets COCO's metric judge by the images that are read alone, after a look whether its annotations are theirs.

    Args:
        metric: Any metric; those that do not go by image ids are left alone.
        cfg: Its config, or a list that holds it.
        dataset: Where images are read from.
        indices: Which of them are read.

    Raises:
        ValueError: If an image id comes twice; or if the metric's annotation file lacks an image, has other boxes for
            it, or numbers the classes in another way.
    """
    if not hasattr(metric, 'img_ids'):
        return
    infos = [dataset.get_data_info(index) for index in indices]
    if not all('img_id' in info for info in infos):
        return
    ids = [info['img_id'] for info in infos]
    truth = getattr(metric, '_coco_api', None)
    source = ', '.join(dict.fromkeys(str(getattr(part, 'ann_file', type(part).__name__)) for part in _parts(dataset)))
    if truth is None:  # it comes with the images
        check_ids(ids, None, source)
    else:
        file = str((cfg if isinstance(cfg, Mapping) else cfg[0])['ann_file'])
        check_ids(ids, truth.imgs, source, file)
        classes = metric.dataset_meta['classes']
        names = {key: category['name'] for key, category in truth.cats.items()}
        _compare_classes(file, names, truth.getCatIds(catNms=classes), classes)
        for info in infos:
            if not _has_boxes(info, truth):
                raise DetNASError(
                    f'Image {info["img_id"]!r} ({info.get("img_path")}) has boxes in {source} that it does not have in '
                    f'{file}, by which the metric judges. Give evaluator.metric.ann_file the annotations of the images '
                    f'in evaluator.dataloader.'
                )
        if len(ids) < len(truth.imgs):
            print_log(
                f'{len(ids)} of the {len(truth.imgs)} images of {file} are read; candidates are judged by these.',
                logger='current',
            )
    metric.img_ids = ids


def check_ids(ids: Sequence[Any], known: Mapping[Any, Any] | None, read: str, judged: str = '') -> None:
    """Looks whether every image has an id of its own, which the annotations know.

    Args:
        ids: Of the images that are read.
        known: What has the ids of all annotated images for keys; None if they are not known.
        read: Where images are read from, for the message.
        judged: The file of the annotations, likewise.

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
            f'such as {lacking[0]!r}. Give evaluator.metric.ann_file the annotations of the images in '
            f'evaluator.dataloader.'
        )


def check_categories(dataset: Any) -> None:
    """Looks whether labels have the meaning that ``metainfo.classes`` gives them, where mmdet goes by a COCO file.

    Raises:
        ValueError: If the file lists the classes in another order, or lacks one.
    """
    for part in _parts(dataset):
        if hasattr(part, 'cat_ids') and str(part.ann_file).endswith('.json'):
            names, classes = _category_names(part), part.metainfo['classes']
            if {names.get(one) for one in part.cat_ids} <= set(classes):  # LVIS does not go by names
                _compare_classes(part.ann_file, names, part.cat_ids, classes)


def _parts(dataset: Any) -> Iterator[Any]:
    """The datasets that read files: this one, or those that it wraps."""
    wrapped = getattr(dataset, 'datasets', None) or [one for one in [getattr(dataset, 'dataset', None)] if one]
    if not wrapped:
        yield dataset
    for part in wrapped:
        yield from _parts(part)


def _category_names(dataset: Any) -> dict[Any, str]:
    """Names by id; all of a file of 400 MB, such as COCO's, would take half a minute to parse."""
    text = get_text(dataset.ann_file, backend_args=getattr(dataset, 'backend_args', None))
    places = [match.end() for match in re.finditer(r'"categories"\s*:\s*(?=\[)', text)]
    if len(places) == 1:
        categories, _ = json.JSONDecoder().raw_decode(text, places[0])
    else:
        categories = json.loads(text)['categories']
    return {category['id']: category['name'] for category in categories}


def _compare_classes(file: str, names: Mapping[Any, str], cat_ids: Sequence[Any], classes: Sequence[str]) -> None:
    found = [names[one] for one in cat_ids]
    lacking = [name for name in classes if name not in found]
    if lacking:
        raise DetNASError(
            f'{file} lacks {len(lacking)} of the {len(classes)} names of metainfo.classes, such as {lacking[0]!r}; its '
            f'categories are {list(names.values())!r:.300}. Give metainfo=dict(classes=…) names of the file, in its '
            f'order.'
        )
    for label, (there, here) in enumerate(zip_longest(found, classes)):
        if there != here:
            raise DetNASError(
                f'Label {label} is {there!r} by {file}, and {here!r} by metainfo.classes: mmdet numbers labels in the '
                f'order of the file. List the categories of every file, and metainfo.classes, in the order of the '
                f'training json.'
            )


def _has_boxes(info: Mapping[str, Any], truth: Any) -> bool:
    """Whether an image's boxes are in COCO's annotations of it, which may hold more."""
    own = np.array([one['bbox'] for one in info.get('instances', ()) if 'bbox' in one], dtype=float).reshape(-1, 4)
    there = [one['bbox'] for one in truth.imgToAnns.get(info['img_id'], ()) if len(one.get('bbox', ())) == 4]
    if not len(own) or not there:
        return not len(own)
    boxes = np.array(there, dtype=float)
    boxes[:, 2:] += boxes[:, :2]
    return bool((np.abs(own[:, None] - boxes).max(-1).min(1) <= _TOLERANCE).all())
