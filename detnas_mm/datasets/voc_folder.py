"""Checks a VOC folder before it is used. Standard library only."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from xml.etree import ElementTree

from detnas_mm.errors import DetNASError


def check_voc(
    list_file: str | Path, folder: str | Path, content: bool = True, annotations: str = 'Annotations'
) -> list[str]:
    """Raises if mmdet could not read the images and annotations of a list.

    Args:
        list_file: One id a line, such as ``VOC2007/ImageSets/Main/trainval.txt``.
        folder: Folder of the year, such as ``VOC2007``.
        content: Whether to read the annotation files too, which takes longer.
        annotations: Name of their folder.

    Returns:
        The ids, in the order of the list.

    Raises:
        DetNASError: If there are faults. The message names the file, the fault, an example and the number.
        OSError: If the list cannot be read.
    """
    list_file = Path(list_file)
    try:
        ids = [line for line in list_file.read_text(encoding='utf-8').splitlines() if line.strip()]  # as mmdet reads it
    except UnicodeDecodeError as error:
        raise DetNASError(f'{list_file} is not a UTF-8 text file ({error}); give a list of images.') from error
    if not ids:
        raise DetNASError(f'{list_file} is empty: it must list one image id a line.')
    there = set(os.listdir(Path(folder, annotations))) if Path(folder, annotations).is_dir() else set()
    bare = [one for one in ids if f'{one}.xml' not in there and not Path(folder, annotations, f'{one}.xml').is_file()]
    if bare:
        raise DetNASError(
            f'{len(bare):,} of the {len(ids):,} images in {list_file} have no file in '
            f'{Path(folder).name}/{annotations}, '
            f'such as {bare[:3]}. The file must list one id a line; check that the data set was unpacked completely.'
        )
    twice = [one for one, times in Counter(ids).items() if times > 1]
    if twice:
        raise DetNASError(
            f'{list_file}: images are listed more than once, such as {twice[:3]} ({len(twice):,} in all): remove the '
            f'duplicates.'
        )
    if content:
        _check_content(list_file, Path(folder, annotations), ids)
    return ids


def _check_content(list_file: Path, folder: Path, ids: Sequence[str]) -> None:
    faults = ((folder / f'{one}.xml', _fault(folder / f'{one}.xml')) for one in ids)
    wrong = [(file, fault) for file, fault in faults if fault]
    if wrong:
        file, fault = wrong[0]
        raise DetNASError(
            f'{file} {fault} ({len(wrong):,} of the {len(ids):,} files of {list_file}). Correct the files.'
        )


def _fault(file: Path) -> str:
    """Returns the fault of an annotation file; empty if there is none."""
    if not file.stat().st_size:
        return 'is empty'
    try:
        root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, LookupError) as error:  # LookupError: an unknown encoding
        return f'is not XML: {error}'
    size = root.find('size')
    if root.tag != 'annotation' and size is None and root.find('object') is None:
        return f'is not a VOC annotation file: its root is <{root.tag}>, without size and object'
    if size is not None and not all(_number(size, side) >= 1 for side in ('width', 'height')):
        return 'has a size without width or height in pixels'
    for number, item in enumerate(root.findall('object'), 1):
        if not item.findtext('name'):
            return f'has no name for object {number}'
        box = item.find('bndbox')
        if box is None or not all(isfinite(_number(box, side)) for side in ('xmin', 'ymin', 'xmax', 'ymax')):
            return f'has no bndbox of four finite numbers for object {number} ({item.findtext("name")})'
    return ''


def _number(node: ElementTree.Element, name: str) -> float:
    try:
        return float(node.findtext(name) or 'nan')
    except ValueError:
        return float('nan')
