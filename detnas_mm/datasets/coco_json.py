"""Checks COCO annotation files before they are used. Standard library only.

A file as large as train2017's (448 MB, 860,000 boxes) takes a dozen seconds to parse, and mmdet needs most of a minute
to read it; checking the parsed content takes two seconds.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from detnas_mm.errors import DetNASError

_LISTS = dict(images='image', annotations='annotation', categories='category')
_FILLS_IN = 'python tools/dataset_converters/split_coco.py fills in areas'


class Fault(NamedTuple):
    """Entries of a file with the same fault; as text one clause.

    Attributes:
        first: The first of them, such as ``'annotation 12'``.
        what: The fault, such as ``'has no area'``.
        number: Number of entries with the fault.
        total: Number of all entries.
        among: Kind of the entries, such as ``'annotations'``.
    """

    first: str
    what: str
    number: int
    total: int
    among: str

    def __str__(self) -> str:
        return f'{self.first} {self.what} ({self.number:,} of {self.total:,} {self.among})'


def check_coco(
    file: str | Path, content: Any = None, lists: Sequence[str] = ('images', 'categories'), area: bool = True
) -> dict[str, Any]:
    """Raises if mmdet could not read a COCO file, or would misread it.

    Args:
        file: The annotation file.
        content: Its parsed content. Defaults to None: the file is parsed.
        lists: Lists that it must have. Test sets have no annotations.
        area: Whether annotations must have an area.

    Returns:
        The parsed content.

    Raises:
        DetNASError: If there are faults. The message names the file and, for each fault, the first entry and the
            number.
        OSError: If the file cannot be read.
    """
    if content is None:
        text = Path(file).read_bytes()
        if text.startswith(codecs.BOM_UTF8):
            raise DetNASError(
                f'{file} begins with a byte order mark, which mmdet cannot read: save it as UTF-8 without one.'
            )
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DetNASError(f'{file} is not JSON: {error}.') from error
    lacking = [key for key in lists if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if lacking:
        raise DetNASError(
            f'{file} is not a COCO annotation file: it must be a dict with lists {", ".join(lists)}, but lacks '
            f'{lacking}.'
        )
    others = [key for key in _LISTS if key in content and not isinstance(content[key], list)]
    if others:
        raise DetNASError(f'{file}: {others[0]} must be a list; got {content[others[0]]!r:.80}. Correct the file.')
    if not content.get('images'):
        raise DetNASError(f'{file} has an empty list of images. Give a file with images.')
    faults = coco_faults(content, area)
    if faults:
        advice = f' ({_FILLS_IN})' if any('area' in fault.what for fault in faults) else ''
        raise DetNASError(f'{file}: {"; ".join(map(str, faults))}. Correct the file{advice}.')
    return content


def coco_faults(content: Mapping[str, Any], area: bool = True) -> list[Fault]:
    """Returns the faults of a COCO file: in ids, types, sizes, boxes and references of annotations.

    Not faults: images without boxes, ids with gaps or in any order, categories without boxes, and boxes that mmdet
    skips (below a pixel, outside of their image), unless mmdet skips all. Categories may share a name, as long as no
    classes are selected by it (:func:`~detnas_mm.evaluators.detection.truth.compare_classes`).

    Args:
        content: Parsed content with the lists ``images``, ``annotations`` and ``categories``.
        area: Whether annotations must have an area.
    """
    images, annotations, categories = (content.get(key) or [] for key in _LISTS)
    found = [fault for key in _LISTS for fault in _id_faults(content.get(key) or [], key)]
    if found:
        return found
    known, classes = ({one['id'] for one in entries} for entries in (images, categories))
    listed = dict(image_id=known, category_id=classes)
    boxed = [one for one in annotations if not one.get('ignore')]  # mmdet skips the others
    checks: list[tuple[str, Sequence[Any], str, Callable[[Any], bool]]] = [
        ('categories', categories, 'has no name (a string)', lambda one: isinstance(one.get('name'), str)),
        ('images', images, 'has no file_name (a string)', lambda one: isinstance(one.get('file_name'), str)),
        ('images', images, 'has no width in pixels', lambda one: _is_number(one.get('width')) and one['width'] > 0),
        ('images', images, 'has no height in pixels', lambda one: _is_number(one.get('height')) and one['height'] > 0),
        ('annotations', annotations, 'has an image_id that is not in images',
         lambda one: _is_id(one.get('image_id')) and one['image_id'] in known),
        ('annotations', annotations, 'has a category_id that is not in categories',
         lambda one: _is_id(one.get('category_id')) and one['category_id'] in classes),
        ('annotations', boxed, 'has no bbox of four finite numbers', lambda one: _is_box(one.get('bbox'))),
        ('annotations', annotations, 'has an iscrowd other than 0 or 1', lambda one: one.get('iscrowd', 0) in (0, 1)),
        ('annotations', boxed if area else [], 'has no area (a number)', lambda one: _is_number(one.get('area'))),
    ]  # fmt: skip
    for key, entries, what, right in checks:
        wrong = [one for one in entries if not right(one)]
        if wrong:
            name = next((name for name in _VALUES if name in what and name in wrong[0]), None)
            if name is not None:
                value = wrong[0][name]
                what = f'{what}: {name} {value!r:.80}'
                alike = [one for one in listed.get(name, ()) if str(one) == str(value)]  # 1 and "1"
                what = f'{what}, where {alike[0]!r:.80} is listed' if alike else what
            found.append(Fault(f'{_LISTS[key]} {wrong[0]["id"]!r}', what, len(wrong), len(entries), key))
    if not found and boxed and area:
        sizes = {one['id']: (one['width'], one['height']) for one in images}
        if not any(_is_usable(one, *sizes[one['image_id']]) for one in boxed):
            what = f'has the bbox {boxed[0]["bbox"]}, in pixels, which like all others is empty or outside of its image'
            found.append(Fault(f'annotation {boxed[0]["id"]!r}', what, len(boxed), len(boxed), 'annotations'))
    return found


def negative_boxes(content: Mapping[str, Any]) -> Fault | None:
    """Returns the boxes of negative width or height, which mmdet skips silently; None if there are none.

    Args:
        content: Parsed content that :func:`check_coco` accepts.
    """
    boxed = [one for one in content.get('annotations') or () if not one.get('ignore')]
    wrong = [one for one in boxed if min(one['bbox'][2:]) < 0]
    if not wrong:
        return None
    what = f'has a negative width or height: bbox {wrong[0]["bbox"]}'
    return Fault(f'annotation {wrong[0]["id"]!r}', what, len(wrong), len(boxed), 'annotations')


_VALUES = ('image_id', 'category_id', 'bbox', 'iscrowd', 'area', 'width', 'height', 'file_name', 'name')


def same_pictures(images: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Returns the ids of all images by their file name, in the order of the list."""
    ids = defaultdict(list)
    for image in images:
        ids[os.path.normpath(image['file_name'])].append(image['id'])
    return dict(ids)


def fill_in(annotations: Sequence[dict[str, Any]]) -> None:
    """Adds ``iscrowd=0`` and the area of the box to annotations that lack them."""
    for one in annotations:
        if not _is_number(one.get('area')) and _is_box(one.get('bbox')):
            one['area'] = one['bbox'][2] * one['bbox'][3]
        one.setdefault('iscrowd', 0)


def coco_categories(file: str | Path, text: str | None = None) -> dict[Any, str]:
    """Returns the names of a file's categories by id, in order; parses only these, since 448 MB take long.

    Args:
        file: The annotation file. The result is cached until the file changes.
        text: Content of the file, if it is not on this machine.

    Raises:
        DetNASError: If it is not a COCO file.
    """
    if text is not None:
        return _categories(str(file), text)
    state = os.stat(file)
    return _remembered(str(file), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=64)
def _remembered(file: str, changed: int, size: int) -> dict[Any, str]:
    return _categories(file, Path(file).read_text(encoding='utf-8', errors='replace'))


def _categories(file: str, text: str) -> dict[Any, str]:
    places = [match.end() for match in re.finditer(r'"categories"\s*:\s*(?=\[)', text)]
    try:
        if len(places) == 1:
            categories, _ = json.JSONDecoder().raw_decode(text, places[0])
        else:
            categories = json.loads(text)['categories']
        return {category['id']: category['name'] for category in categories}
    except (ValueError, LookupError, TypeError) as error:
        check_coco(file)
        raise DetNASError(f'{file}: its categories cannot be read ({error!r}). Correct the file.') from error


def _id_faults(entries: Sequence[Any], key: str) -> Iterator[Fault]:
    """Yields entries without an id, with the id of another one, or with one of another type than most."""
    bare = [(place, one) for place, one in enumerate(entries) if not isinstance(one, dict) or not _is_id(one.get('id'))]
    if bare:
        place, one = bare[0]
        yield Fault(f'{key}[{place}]', f'has no id (a whole number): {one!r:.80}', len(bare), len(entries), key)
        return
    types = Counter(type(one['id']) for one in entries)
    if len(types) > 1:
        rare = min(types, key=lambda kind: types[kind])
        first = next(one['id'] for one in entries if type(one['id']) is rare)
        yield Fault(f'{_LISTS[key]} {first!r}', 'has an id of another type than most', types[rare], len(entries), key)
    ids = Counter(one['id'] for one in entries)
    if len(ids) < len(entries):
        first = next(one for one, times in ids.items() if times > 1)
        yield Fault(f'{_LISTS[key]} {first!r}', 'has the id of another one', len(entries) - len(ids), len(entries), key)


def _is_id(value: Any) -> bool:
    return type(value) in (int, str)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and isfinite(value)


def _is_box(value: Any) -> bool:
    try:
        return len(value) == 4 and isfinite(sum(value))
    except (TypeError, OverflowError):
        return False


def _is_usable(annotation: Mapping[str, Any], width: float, height: float) -> bool:
    """Returns True if mmdet uses a box."""
    x, y, w, h = annotation['bbox']
    inside = min(x + w, width) > max(x, 0) and min(y + h, height) > max(y, 0)
    return inside and w >= 1 and h >= 1 and annotation['area'] > 0
