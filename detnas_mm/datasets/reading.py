"""Checks annotation files and images of data sets while these are built."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from detnas_mm.datasets.coco_json import check_coco, negative_boxes
from detnas_mm.datasets.described import DescribedSet
from detnas_mm.datasets.images import THEN, missing_files, name_broken_images, parts, reads_files
from detnas_mm.datasets.voc_folder import check_voc
from detnas_mm.errors import DetNASError


@contextlib.contextmanager
def looked_at(sets: Iterable[DescribedSet]) -> Iterator[None]:
    """Checks annotation files while datasets are built inside; COCO files are not parsed a second time for it.

    Args:
        sets: The datasets that are built.

    Raises:
        DetNASError: If a dataset cannot be built, or would misread a COCO file, because of the content of its files.
    """
    sets = list(sets)
    with contextlib.ExitStack() as stack:
        for one in sets:
            if one.is_coco and one.coco_api is not None and not issubclass(one.coco_api, _Looking):
                stack.enter_context(_looking(one.kind))
        stack.enter_context(_noting_images())
        try:
            yield
        except DetNASError:
            raise
        except Exception as error:
            for one in sets:
                check_files_of(one, error)
            raise


def check_files_of(one: DescribedSet, error: Exception | None = None) -> None:
    """Checks the whole content of a dataset's annotation files.

    Args:
        one: The dataset; only the kinds of COCO and VOC are checked.
        error: Error raised while it was read, if any.

    Raises:
        DetNASError: If there is a fault. The message names the file, the fault and the number of entries.
    """
    file, folder = one.file, one.folder
    if file is None or not file.is_file():
        return
    try:
        if one.is_coco:
            check_coco(file)
        elif one.is_voc and folder is not None:
            check_voc(file, folder, annotations=one.cfg.get('ann_subdir', 'Annotations'))
    except DetNASError as found:
        raise found from error
    if 'need at least one array to concatenate' in str(error):  # numpy's message for an empty list of images
        raise DetNASError(
            f'{one.key} has no image left of {file}: filter_cfg={one.cfg.get("filter_cfg")} removes images without '
            f'boxes of '
            f'its classes, and none has a box of {_some(one)}. Set metainfo.classes to names of the file.'
        ) from error


def _some(one: DescribedSet) -> str:
    classes, where = one.classes()
    return f'{where} ({", ".join(map(repr, (classes or ())[:3]))}, …)'


@contextlib.contextmanager
def _looking(kind: type) -> Iterator[None]:
    """Makes a dataset's class check COCO files after parsing them, inside the block."""
    owner: Any = next(base for base in kind.__mro__ if 'COCOAPI' in vars(base))
    original = owner.COCOAPI
    owner.COCOAPI = _looking_api(original)
    try:
        yield
    finally:
        owner.COCOAPI = original


class _Looking:
    """A mark."""


@cache
def _looking_api(api: Any) -> type:
    class Looking(_Looking, api):
        def __init__(self, annotation_file: Any = None) -> None:
            self._file = annotation_file
            super().__init__(annotation_file)

        def createIndex(self) -> None:
            check_coco(self._file, self.dataset)
            super().createIndex()
            wrong = negative_boxes(self.dataset)
            if wrong is not None:
                _warn_once(
                    f'{self._file}: {wrong}: mmdet skips such boxes, so their objects are lost. Boxes are '
                    f'[x, y, width, height]: correct the file.'
                )

    Looking.__name__ = api.__name__
    return Looking


@cache
def _warn_once(text: str) -> None:
    print_log(text, logger='current', level=logging.WARNING)


class _Images(NamedTuple):
    """Paths of a dataset's images (None if not known), and whether any has a box (None if not known)."""

    paths: list[Any]
    boxed: bool | None


def _images(infos: Iterable[Any]) -> _Images:
    paths, boxed = [], None
    for info in infos:
        if isinstance(info, Mapping):
            paths.append(info.get('img_path'))
            if 'instances' in info:
                boxed = boxed or bool(info['instances'])
    return _Images(paths, boxed)


@contextlib.contextmanager
def _noting_images() -> Iterator[None]:
    """Records the images of datasets built inside before they are serialised: unpacking COCO's masks takes long."""
    original: Any = BaseDataset._serialize_data

    def serialize(self: Any) -> Any:
        self._noted = _images(self.data_list)
        return original(self)

    BaseDataset._serialize_data = serialize
    try:
        yield
    finally:
        BaseDataset._serialize_data = original


def check_images(dataset: Any, indices: Iterable[int] | None = None, boxes: bool = False) -> None:
    """Raises if image files of a dataset are missing, and makes it name those that cannot be read later.

    Args:
        dataset: A dataset of mmengine, or a wrapper of such; others are not checked.
        indices: Indices of the images that are read. Defaults to None: all.
        boxes: Whether at least one image must have a box, as training needs.

    Raises:
        DetNASError: If files or boxes are missing. The message gives an example and the number.
    """
    name_broken_images(dataset)
    boxed, sources = [], []
    noted = {id(one): vars(one).pop('_noted', None) for one in parts(dataset)}
    for part in parts(dataset) if indices is None else [dataset]:
        if not hasattr(part, 'get_data_info'):
            continue
        found = noted.get(id(part)) if indices is None else None
        found = found or _images(map(part.get_data_info, range(len(part)) if indices is None else indices))
        source = ', '.join(str(getattr(one, 'ann_file', '') or type(one).__name__) for one in parts(part))
        local = all(map(reads_files, parts(part)))
        lacking = missing_files(path for path in found.paths if isinstance(path, str)) if local else []
        if lacking:
            raise DetNASError(
                f'{len(lacking):,} of the {len(found.paths):,} images of {source} do not exist, such as {lacking[0]}. '
                f'Put them there, or set data_prefix to their folder; {THEN}.'
            )
        boxed.append(found.boxed)
        sources.append(source)
    if boxes and False in boxed and True not in boxed:  # in a labelled and an unlabelled set only one has boxes
        raise DetNASError(
            f'No image of {", ".join(sources)} has a box of {dataset.metainfo.get("classes")!r:.200}: there is nothing '
            f'to train on. Set metainfo=dict(classes=…) to names in the annotations.'
        )
