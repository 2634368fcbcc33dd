"""Checks every image of a job before hours of work: the option ``--check-images`` of the tools."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mmengine.registry import DATASETS, DefaultScope
from tqdm import tqdm

from detnas_mm.cli import CHECK_IMAGES, read_source
from detnas_mm.datasets.described import DescribedSet
from detnas_mm.datasets.images import image_fault, parts, reads_files
from detnas_mm.datasets.reading import looked_at
from detnas_mm.engine.inputs import JobInputs
from detnas_mm.errors import DetNASError
from detnas_mm.registry import building

#: Number of images distributed at a time, which limits the memory of pending tasks.
_AT_A_TIME = 4096


def check_every_image(cfg: Any, splits: Sequence[str]) -> None:
    """Decodes every image of a job once, and prints those that cannot be read.

    For a search this includes the test set of found nets: that of ``search.export.config``, or its own. A test set that
    is not on this machine is named and skipped.

    Args:
        cfg: Config of the job.
        splits: Splits whose images are checked besides those of the search, such as ``'train'``.

    Raises:
        DetNASError: If images cannot be read, there are none to check, or data are missing or do not fit.
    """
    inputs = JobInputs.read(cfg, splits)
    inputs.check_files()
    inputs.check_annotations()
    paths = list(dict.fromkeys([*_paths(inputs.sets, cfg.get('default_scope')), *_exported_paths(cfg)]))
    if not paths:
        raise DetNASError(
            f'{CHECK_IMAGES}: {cfg.filename} has no images on this machine for {", ".join([*splits, "search"])}.'
        )
    broken = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool, tqdm(total=len(paths), desc='images', unit='image') as bar:
        for start in range(0, len(paths), _AT_A_TIME):
            some = paths[start : start + _AT_A_TIME]
            for path, fault in zip(some, pool.map(image_fault, some), strict=True):
                if fault:
                    broken += 1
                    bar.write(f'{path} {fault}')
                bar.update(1)
    if broken:
        raise DetNASError(f'{broken:,} of {len(paths):,} images cannot be read: restore the files in the list above.')
    print(f'All {len(paths):,} images can be read.')


def _exported_paths(cfg: Any) -> list[str]:
    """Returns paths of the images on which nets of a search are tested; none if the job is not a search."""
    search = cfg.get('search')
    export = search.get('export', {}) if isinstance(search, Mapping) else None
    if not isinstance(export, Mapping):
        return []
    config, source = cfg, export.get('config')
    if source is not None:
        config = read_source('search.export.config', source)
    tested = {key: value for key, value in config.items() if key != 'search'}
    inputs = JobInputs.read(tested, ['test'])
    for one in inputs.sets:
        if one.file is not None and not one.file.is_file():
            print(f'{one.key} of {source or cfg.filename}: there is no file {one.file}; its images are not looked at.')
            return []
    inputs.check_files()
    inputs.check_annotations()
    return _paths(inputs.sets, config.get('default_scope'))


def _paths(sets: Iterable[DescribedSet], scope: str | None) -> list[str]:
    """Returns the paths of all images that are read, without those that ``filter_cfg`` and ``indices`` remove."""
    paths: dict[str, None] = {}
    with DefaultScope.overwrite_default_scope(scope):
        for one in sets:
            with building(one.key), looked_at([one]):
                dataset = DATASETS.build(copy.deepcopy(dict(one.cfg)))
                if hasattr(dataset, 'full_init'):
                    dataset.full_init()
            for part in parts(dataset):
                if not (hasattr(part, 'get_data_info') and reads_files(part)):
                    print(f'{one.key}: its images are no files on this machine, so they were not checked.')
                    continue
                infos = (part.get_data_info(index) for index in range(len(part)))
                paths |= dict.fromkeys(str(info['img_path']) for info in infos if info.get('img_path'))
    return list(paths)
