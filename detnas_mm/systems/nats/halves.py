"""Check that the weights and α are trained on different images (NATS, section 3.4)."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

from torch.utils.data import Dataset

from detnas_mm.datasets.images import parts
from detnas_mm.errors import DetNASError

_WHY = 'NATS trains the weights and α on disjoint halves, so that α is chosen on images that the weights have not seen'
_SPLIT = 'tools/dataset_converters/split_coco.py splits a COCO file in two'
_ALLOW = 'train_cfg.allow_shared_images=True'


def check_settings(weights: Any, alpha: Any) -> None:
    """Checks that the data sets of both loaders have different settings; transforms are not compared.

    Args:
        weights: ``train_dataloader``.
        alpha: ``train_cfg.alpha_dataloader``.

    Raises:
        DetNASError: If the settings are the same.
    """
    if not isinstance(weights, Mapping) or not isinstance(alpha, Mapping):
        return
    first, second = (_without_pipelines(one.get('dataset')) for one in (weights, alpha))
    if isinstance(first, Mapping) and first == second:
        named = ', '.join(f'{key}={first[key]!r}' for key in ('ann_file', 'data_root', 'data_prefix') if key in first)
        raise DetNASError(
            f'train_dataloader and train_cfg.alpha_dataloader read the same data set'
            f'{f" ({named})" if named else ""}. {_WHY}: {_SPLIT}. To train both on all images, set {_ALLOW}.'
        )


def check_images(weights: Dataset, alpha: Dataset, warn: Callable[[str], None]) -> None:
    """Counts the images that two data sets share, by file name, or by id if an image has no file.

    Args:
        weights: The data set of ``train_dataloader``.
        alpha: That of ``train_cfg.alpha_dataloader``.
        warn: Logs the warning if the data sets share some images.

    Raises:
        DetNASError: If all images of α are images of the weights.
    """
    ours = _images(alpha)
    shared = len(ours & _images(weights)) if ours else 0
    if not shared:
        return
    if shared == len(ours):
        raise DetNASError(
            f'All {shared:,} images of train_cfg.alpha_dataloader are images of train_dataloader as well. {_WHY}: '
            f'{_SPLIT}. To train α on images of the weights, set {_ALLOW}.'
        )
    warn(
        f'{shared:,} of the {len(ours):,} images of train_cfg.alpha_dataloader are images of train_dataloader as well. '
        f'{_WHY}: {_SPLIT}. To turn this check off, set {_ALLOW}.'
    )


def _without_pipelines(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _without_pipelines(value) for key, value in node.items() if key != 'pipeline'}
    return [_without_pipelines(one) for one in node] if isinstance(node, (list, tuple)) else node


def _images(dataset: Any) -> set[tuple[str, Any]]:
    """Returns the image files of a data set, or the image ids; empty for a data set that has neither."""
    found = set()
    for part in parts(dataset):
        if hasattr(part, 'get_data_info'):
            for index in range(len(part)):
                info = part.get_data_info(index)
                if not isinstance(info, Mapping):
                    continue
                path = info.get('img_path')
                if isinstance(path, str):
                    found.add((_resolved(os.path.dirname(path)), os.path.basename(path)))
                elif info.get('img_id') is not None:
                    found.add(('', info['img_id']))
    return found


@functools.lru_cache(maxsize=1024)
def _resolved(folder: str) -> str:
    """Returns the path of a folder with symbolic links resolved: one folder may have two paths."""
    return os.path.realpath(folder)
