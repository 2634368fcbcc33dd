"""Digits, the embedded data set: real handwritten digits, composed into scenes on the user's machine.

The 1,797 handwritten digits and the two photographs that ship inside scikit-learn become a classification set in
ImageNet's folder form and a detection set in COCO's format, so that everything here can be run on real data without a
download. See ``docs/digits.md`` for the layout. Nothing here imports torch.
"""

from __future__ import annotations

import math
import operator
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnas_mm.datasets import _digits_files as files
from detnas_mm.datasets import _digits_scenes as scenes
from detnas_mm.datasets._digits_writer import CLASSES, CREDIT, count_pictures, write_set
from detnas_mm.errors import DetNASError

__all__ = ['CLASSES', 'CREDIT', 'METAINFO', 'PALETTE', 'DigitsSummary', 'make_digits']

PALETTE = [
    (220, 20, 60),
    (255, 127, 14),
    (255, 217, 47),
    (106, 200, 60),
    (0, 158, 115),
    (23, 190, 207),
    (30, 110, 220),
    (148, 90, 220),
    (227, 119, 194),
    (170, 170, 170),
]
METAINFO = {'classes': CLASSES, 'palette': PALETTE}
"""The ``metainfo`` of mmdet's ``CocoDataset`` for Digits."""

# Allowed: (lowest, highest), both included.
LIMITS = {
    'seed': (0, 2**32 - 1),
    'image_size': (48, 1024),
    'num_train': (1, 100_000),
    'num_search_val': (1, 100_000),
    'num_test': (1, 100_000),
    'num_cls_train': (10, 500_000),
    'num_cls_search_val': (10, 500_000),
    'num_cls_test': (10, 500_000),
}
#: Heights of digits: the least in pixels, the greatest as a fraction of the side.
LEAST_PIXELS, MOST_HEIGHT = 7, 0.9
_REASONS = {
    'image_size': 'smaller digits cannot be read, larger ones show no more than their 8x8 source pixels',
    'num_cls': 'each of the 10 classes needs a picture in every split',
}


@dataclass(frozen=True)
class DigitsSummary:
    """Result of :func:`make_digits`.

    Attributes:
        path: The set's folder.
        status: 'made', 'reused' (complete, nothing written) or 'remade' (was damaged or overwritten).
        reason: Reason for remaking it; empty otherwise.
        pictures: Number of pictures by folder, e.g. ``{'train': 4000, ..., 'cls/train': 20000, ...}``.
        seconds: Wall-clock time.
    """

    path: Path
    status: str
    reason: str
    pictures: dict[str, int]
    seconds: float

    def __str__(self) -> str:
        counts = ', '.join(f'{name} {count:,}' for name, count in self.pictures.items())
        reason = f' ({self.reason})' if self.reason else ''
        return f'Digits {self.status} in {self.seconds:.1f} s at {self.path}{reason}: {counts} pictures'


def make_digits(
    out_dir: str | Path = 'data/digits',
    *,
    seed: int = 0,
    image_size: int = 96,
    num_train: int = 4000,
    num_search_val: int = 400,
    num_test: int = 2000,
    num_cls_train: int = 20000,
    num_cls_search_val: int = 1000,
    num_cls_test: int = 1000,
    heights: tuple[float, float] | None = None,
    overwrite: bool = False,
    progress: bool = True,
    log: Callable[[str], None] = print,
) -> DigitsSummary:
    """Makes the Digits set, or checks the one that is there.

    The same arguments give the same bytes. An existing set is checked file by file and not written; a damaged one is
    made again. Several processes may call this at once: one makes the set, the others wait.

    Args:
        out_dir: Folder of the set; made if missing. Other files in it are kept.
        seed: Seed of the splits and of all pictures.
        image_size: Side of a scene in pixels; everything in it scales along. Crops have half of it.
        num_train: Detection scenes for training.
        num_search_val: Detection scenes on which a search evaluates its candidates.
        num_test: Detection scenes for the final test.
        num_cls_train: Classification crops for training, spread evenly over the 10 classes.
        num_cls_search_val: Classification crops for a search.
        num_cls_test: Classification crops for the final test.
        heights: Lowest and highest height of a scene's digits, as fractions of its side. Defaults to None:
            14/96 and 60/96.
        overwrite: Replace what is there if it is another set, or not a Digits set at all.
        progress: Show a progress bar on a terminal.
        log: Receives one line if a damaged set is found.

    Raises:
        ValueError: If an argument is out of range; the folder cannot be written, has too little space, holds a set with
            other parameters, or other files of the same names.
    """
    started = time.perf_counter()
    parameters = _validate(
        {
            'seed': seed,
            'image_size': image_size,
            'num_train': num_train,
            'num_search_val': num_search_val,
            'num_test': num_test,
            'num_cls_train': num_cls_train,
            'num_cls_search_val': num_cls_search_val,
            'num_cls_test': num_cls_test,
        }
    )
    if heights is not None:  # default sets do not record it
        parameters['heights'] = _checked_heights(heights, parameters['image_size'])
    out = Path(out_dir)

    def summary(status: str, reason: str = '') -> DigitsSummary:
        return DigitsSummary(out, status, reason, count_pictures(parameters), time.perf_counter() - started)

    # First without the lock: a finished set may be in a read-only folder.
    found, reason = _inspect(out, parameters, overwrite)
    if found == 'good':
        return summary('reused')
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK | os.X_OK):
            raise PermissionError('no permission to write')
    except OSError as error:
        raise DetNASError(f'out_dir={str(out)!r} cannot be written ({error}); choose another folder') from error
    with files.locked(out):
        found, reason = _inspect(out, parameters, overwrite)
        if found == 'good':
            return summary('reused')
        if reason:
            log(f'Digits at {out}: {reason}; making it again')
        workshop = out / files.WORKSHOP
        shutil.rmtree(workshop, ignore_errors=True)  # left by a process that was killed
        _check_room(out, parameters)
        try:
            stamp = write_set(workshop, parameters, progress)
            files.put_in_place(workshop, out, stamp)
        finally:
            shutil.rmtree(workshop, ignore_errors=True)
    return summary('remade' if found == 'bad' else 'made', reason)


def _checked_heights(heights: Any, size: int) -> list[float]:
    try:
        low, high = (float(height) for height in heights)
    except (TypeError, ValueError):
        low = high = math.nan
    if not LEAST_PIXELS / size <= low < high <= MOST_HEIGHT:
        raise DetNASError(
            f'heights={heights!r} is not allowed; give the lowest and highest height of digits as two ascending '
            f'fractions of the side, from {LEAST_PIXELS / size:.3g} ({LEAST_PIXELS} pixels, below which digits cannot '
            f'be read) to {MOST_HEIGHT}'
        )
    return [low, high]


def _validate(parameters: dict[str, Any]) -> dict[str, Any]:
    for name, value in parameters.items():
        low, high = LIMITS[name]
        try:
            number = operator.index(value)
        except TypeError:
            number = low - 1
        if isinstance(value, bool) or not low <= number <= high:
            why = next((f': {text}' for prefix, text in _REASONS.items() if name.startswith(prefix)), '')
            raise DetNASError(f'{name}={value!r} is not allowed; give a whole number from {low:,} to {high:,}{why}')
        parameters[name] = number
    return parameters


def _inspect(out: Path, parameters: dict[str, Any], overwrite: bool) -> tuple[str, str]:
    """Checks the folder; returns ('good' | 'bad' | 'nothing', the fault)."""
    if out.exists() and not out.is_dir():
        raise DetNASError(f'out_dir={str(out)!r} is a file; choose a folder')
    stamp = files.read_stamp(out)
    if stamp is None:
        if files.belongs_to_digits(out):
            lost = any((out / name).exists() for name in files.OWN_NAMES)
            return ('bad', f'{files.STAMP} is missing') if lost else ('nothing', '')
        if overwrite:
            return 'bad', 'overwritten as asked'
        raise DetNASError(
            f'out_dir={str(out)!r} holds files of the names {", ".join(files.OWN_NAMES)} that are not a Digits set; '
            'choose another folder, or pass overwrite (--overwrite) to delete them'
        )
    there = stamp.get('parameters', parameters)
    differing = [
        f'{k}={there.get(k)!r} instead of {parameters.get(k)!r}'
        for k in dict.fromkeys([*parameters, *there])
        if there.get(k) != parameters.get(k)
    ]
    if differing and not overwrite:
        raise DetNASError(
            f'out_dir={str(out)!r} holds a Digits set with {", ".join(differing)}; '
            'choose another folder, or pass overwrite (--overwrite) to replace it'
        )
    damage = f'it has {", ".join(differing)}' if differing else files.find_damage(out, stamp)
    return ('bad', damage) if damage else ('good', '')


def _check_room(out: Path, parameters: dict[str, Any]) -> None:
    crop_size = round(parameters['image_size'] * scenes.CROP_PART)
    needed = 2**22  # annotations
    for name, count in count_pictures(parameters).items():
        size = files.png_size(crop_size if name.startswith('cls') else parameters['image_size'])
        needed += count * -(-size // 4096) * 4096
    free = shutil.disk_usage(out).free
    if free < needed:
        raise DetNASError(
            f'out_dir={str(out)!r} has {free / 2**20:,.0f} MiB free, but the set needs {needed / 2**20:,.0f} MiB; '
            'free some space, choose another folder, or lower image_size or the numbers of pictures'
        )
