"""Finds image files that are missing or cannot be read, and names them in errors."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from typing import Any

from detnas_mm.errors import DetNASError


class BrokenImageError(DetNASError):
    """A file that should hold an image cannot be read as one.

    torch's loader raises an error of a worker again, with the worker's traceback in the text. The message of this error
    is the last line of that text; the rest becomes its cause.
    """

    def __init__(self, text: str) -> None:
        before, mark, message = text.rpartition(f'{type(self).__name__}: ')
        super().__init__(message.strip())
        if mark:
            self.__cause__ = RuntimeError(before)


def image_fault(path: str) -> str:
    """Returns the fault of an image file (missing, empty, not an image, truncated); '' if there is none."""
    import cv2  # mmcv reads images with it
    from PIL import Image  # its errors give the reason

    if not os.path.exists(path):
        return 'is missing'
    if os.path.isdir(path):
        return 'is a folder'
    try:
        if not os.path.getsize(path):
            return 'is empty'
        with open(path, 'rb') as file:
            head = file.read(16)
        with Image.open(path) as image:
            image.load()
    except Image.UnidentifiedImageError:
        return f'is not an image: it begins with {head!r}'
    except PermissionError as error:
        return f'cannot be read: {error.strerror}'
    except (OSError, SyntaxError, ValueError) as error:
        return f'is truncated or damaged ({error})'
    return '' if cv2.imread(path, cv2.IMREAD_UNCHANGED) is not None else 'cannot be read by OpenCV'


def missing_files(paths: Iterable[str]) -> list[str]:
    """Returns the paths at which there is no file; lists every folder once."""
    by_folder = defaultdict(list)
    for path in paths:
        if '://' not in path:
            by_folder[os.path.dirname(path)].append(path)
    out = []
    for folder, wanted in by_folder.items():
        there = set(os.listdir(folder or '.')) if os.path.isdir(folder or '.') else set()
        out += [path for path in wanted if os.path.basename(path) not in there and not os.path.exists(path)]
    return out


def parts(dataset: Any) -> Iterator[Any]:
    """Yields the datasets that read files: this one, or those that it wraps."""
    wrapped = getattr(dataset, 'datasets', None) or [
        one for one in (getattr(dataset, 'dataset', None), getattr(dataset, '_dataset', None)) if one
    ]
    if not wrapped:
        yield dataset
    for part in wrapped:
        yield from parts(part)


def reads_files(part: Any) -> bool:
    """Returns True if a dataset of mmengine loads images from files on this machine only."""
    loaders = [
        one
        for one in getattr(getattr(part, 'pipeline', None), 'transforms', ())
        if any(base.__name__ == 'LoadImageFromFile' for base in type(one).__mro__)
    ]
    return bool(loaders) and not any(
        getattr(one, 'backend_args', None) or getattr(one, 'file_client_args', None) for one in loaders
    )


def name_broken_images(dataset: Any) -> None:
    """Makes a dataset of mmengine, or those that it wraps, name the file if an image cannot be read.

    Raises:
        BrokenImageError: Later, when an image is loaded.
    """
    for part in parts(dataset):
        prepare = getattr(part, 'prepare_data', None)
        if prepare is not None and reads_files(part) and not isinstance(prepare, partial):
            part.prepare_data = partial(_prepared, prepare, part.get_data_info)


def _prepared(prepare: Callable[[int], Any], info: Callable[[int], Any], index: int) -> Any:
    try:
        item = prepare(index)
    except Exception as error:
        path = info(index).get('img_path')
        fault = image_fault(path) if isinstance(path, str) and '://' not in path else ''
        if not fault:
            raise
        raise BrokenImageError(_message(path, fault)) from error
    path = info(index).get('img_path')
    if isinstance(path, str) and _ends_early(path) and (fault := _confirmed(path)):  # OpenCV fills the rest with grey
        raise BrokenImageError(_message(path, fault))
    return item


#: Added to errors about unreadable files, after which nothing is lost.
THEN = 'then resume a search with the same command, a training with --resume'


def _message(path: str, fault: str) -> str:
    return f'The image {path} {fault}. Restore the file; {THEN}.'


def _ends_early(path: str) -> bool:
    """Returns True if a file has the first bytes of a JPEG but not the last ones."""
    try:
        with open(path, 'rb') as file:
            if file.read(2) != b'\xff\xd8':
                return False
            file.seek(-2, os.SEEK_END)
            return file.read() != b'\xff\xd9'
    except OSError:
        return False


_confirmed = lru_cache(maxsize=None)(image_fault)
