"""Data sets as described in configs, before they are built."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from inspect import isclass
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.registry import DATASETS

from detnas_mm.config_types import resolve_type


class DescribedSet(NamedTuple):
    """A dataset in a config that reads files itself, not a wrapper of others.

    Attributes:
        key: Its place in the config, such as ``'train_dataloader.dataset.datasets.0'``.
        cfg: Its settings.
        kind: Its class.
    """

    key: str
    cfg: Mapping[str, Any]
    kind: type

    @property
    def is_coco(self) -> bool:
        """True if mmdet's own CocoDataset reads its file."""
        return _defines(self.kind, 'load_data_list') == 'CocoDataset' and self.coco_api is not None

    @property
    def coco_api(self) -> type | None:
        """The class that parses its COCO file; None unless it is mmdet's version of pycocotools."""
        api = getattr(self.kind, 'COCOAPI', None)
        return api if getattr(api, '__name__', '') == 'COCO' else None

    @property
    def is_voc(self) -> bool:
        """True if mmdet's own XMLDataset reads its files."""
        return _defines(self.kind, 'load_data_list') == 'XMLDataset'

    @property
    def file(self) -> Path | None:
        """Its annotation file; None if there is none, or it is not on this machine."""
        return self._local(self.cfg.get('ann_file'))

    @property
    def folder(self) -> Path | None:
        """Folder of VOC's files for mmdet, or of the images of a CustomDataset for mmpretrain."""
        prefix = self.cfg.get('data_prefix') or ''
        if isinstance(prefix, Mapping):
            prefix = prefix.get('sub_data_root' if self.is_voc else 'img_path', '')
        return self._local(prefix or '.')

    def _local(self, path: Any) -> Path | None:
        root = self.cfg.get('data_root') or ''
        texts = isinstance(path, (str, os.PathLike)) and isinstance(root, (str, os.PathLike))
        if not texts or not path or '://' in f'{root}{path}' or self.cfg.get('backend_args'):
            return None
        return Path(root, path)

    def classes(self) -> tuple[Sequence[str] | None, str]:
        """Its classes in the order of their labels (None if not known), and the place where they are set."""
        name = self.kind.__name__
        if self.cfg.get('classes') is not None and _defines(self.kind, '_compat_classes'):  # mmpretrain's
            return _listed(self.cfg['classes']), f'{self.key}.classes'
        load = getattr(self.kind, '_load_metainfo', None)
        try:
            meta = load(copy.deepcopy(self.cfg.get('metainfo'))) if load else {}
        except TypeError:
            return None, ''
        given = 'classes' in (self.cfg.get('metainfo') or {})
        if (classes := meta.get('classes')) is not None:
            where = f'{self.key}.metainfo.classes' if given else f'{name}, since {self.key} has no metainfo.classes'
            return _listed(classes), where
        folder = self.folder
        by_folder = _defines(self.kind, 'load_data_list') == 'CustomDataset' and self.cfg.get('with_label', True)
        if by_folder and not self.cfg.get('ann_file') and folder is not None and folder.is_dir():
            names = sorted(one.name for one in os.scandir(folder) if one.is_dir() and not one.name.startswith('.'))
            return names, f'the folders in {folder}'
        return None, ''


def described(key: str, cfg: Any, scope: str | None) -> Iterator[DescribedSet]:
    """Yields the datasets in a part of a config, wrappers resolved.

    Args:
        key: Key of the part.
        cfg: The part.
        scope: The config's ``default_scope``.
    """
    for place, one in _in_part(key, cfg):
        kind = resolve_type(one, DATASETS, scope)
        if isclass(kind):
            yield DescribedSet(place, one, kind)


def _in_part(key: str, cfg: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields places and settings of the datasets in a part of a config."""
    for name, child in cfg.items() if isinstance(cfg, Mapping) else ():
        if isinstance(child, Mapping):
            yield from (_unwrapped if name == 'dataset' else _in_part)(f'{key}.{name}', child)


def _unwrapped(key: str, cfg: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    wrapped = [(f'{key}.dataset', cfg['dataset'])] if isinstance(cfg.get('dataset'), Mapping) else []
    several = cfg.get('datasets')
    if isinstance(several, (list, tuple)):
        wrapped += [(f'{key}.datasets.{number}', one) for number, one in enumerate(several)]
    if not wrapped:
        yield key, cfg
    for place, one in wrapped:
        if isinstance(one, Mapping):
            yield from _unwrapped(place, one)


def _listed(classes: Any) -> Any:
    """Returns classes as mmengine reads them: a string may be the name of a file that lists them."""
    if isinstance(classes, str) and os.path.isfile(classes):
        return Path(classes).read_text(encoding='utf-8').split('\n')
    return classes


def _defines(kind: type, method: str) -> str:
    """Returns the name of the class that defines a method of ``kind``; empty if it has no such method."""
    return next((base.__name__ for base in kind.__mro__ if method in vars(base)), '')
