"""Checks that /dev/shm is large enough for the batches that loaders send through it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from detnas_mm.config_types import nodes

FOLDER = Path('/dev/shm')
#: Arguments of pipeline steps that set the size of images.
_SIZES = ('scale', 'scales', 'img_scale', 'crop_size', 'size')


def warn_if_small(loaders: Mapping[str, Any], launched: bool) -> None:
    """Warns if loaders of a job may need more shared memory than there is; torch would hang or crash.

    torch's loaders send images through shared memory; those of a search (``FixedBatches``) do not.

    Args:
        loaders: Settings of each loader, by key.
        launched: Whether a launcher has started the job as several processes.
    """
    if os.environ.get('RANK', '0') != '0' or not FOLDER.is_dir():
        return
    sizes = {key: _under_way(loader) for key, loader in loaders.items()}
    ranks = _ranks_here() if launched else 1
    status = os.statvfs(FOLDER)
    free, wanted = status.f_bavail * status.f_frsize, ranks * sum(sizes.values())
    if wanted > free:
        names = ' and '.join(key for key, size in sizes.items() if size)
        several = f', in {ranks} processes' if ranks > 1 else ''
        print_log(
            f'{FOLDER} has {free / 2**20:,.0f} MB free; what loads images for {names} may have '
            f'{wanted / 2**20:,.0f} MB under way there{several}. If that does not fit, torch blocks '
            f'forever, or ends with a bus error: give it more (docker run --shm-size=8g), or set num_workers, '
            f'prefetch_factor or batch_size lower; num_workers=0 needs none.',
            logger='current',
            level=logging.WARNING,
        )


def _under_way(loader: Any) -> int:
    """Returns the bytes of images in a loader's shared memory at one time, at most; 0 if not known."""
    if not isinstance(loader, Mapping):
        return 0
    numbers = loader.get('num_workers') or 0, loader.get('prefetch_factor') or 2, loader.get('batch_size') or 1
    if not numbers[0] or not all(isinstance(number, int) for number in numbers):
        return 0
    workers, ahead, batch_size = numbers
    pipelines = [node['pipeline'] for node in nodes(loader.get('dataset')) if node.get('pipeline')]
    return (workers * ahead + 1) * batch_size * max(map(_image_bytes, pipelines), default=0)


def _image_bytes(pipeline: Sequence[Mapping[str, Any]]) -> int:
    """Returns the bytes of an image after a pipeline: three channels of the size that its last sized step sets."""
    areas = [max((_area(step[key]) for key in _SIZES if key in step), default=0) for step in pipeline]
    depth = 4 if any(step.get('to_float32') for step in pipeline) else 1
    return 3 * depth * next((area for area in reversed(areas) if area), 0)


def _area(size: Any) -> int:
    """Returns the pixels of ``224``, ``(1333, 800)``, or the largest of several pairs; 0 for other values."""
    if isinstance(size, int):
        return size * size
    if not isinstance(size, (list, tuple)) or not size:
        return 0
    if all(isinstance(side, int) for side in size):
        return size[0] * size[-1]
    return max(map(_area, size)) if all(isinstance(one, (list, tuple)) for one in size) else 0


def _ranks_here() -> int:
    """Returns the number of processes of the job on this machine, from variables of torchrun, slurm or MPI."""
    names = ('LOCAL_WORLD_SIZE', 'SLURM_NTASKS_PER_NODE', 'OMPI_COMM_WORLD_LOCAL_SIZE')
    return next((int(os.environ[name]) for name in names if os.environ.get(name, '').isdecimal()), 1)
