"""Checks that heads, data sets and annotation files have the same classes, from the config alone."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from detnas_mm.datasets.coco_json import coco_categories
from detnas_mm.datasets.described import DescribedSet
from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.detection.truth import compare_classes

#: Keys of heads that classify objects: not those of RPNs, nor of semantic branches, which have other classes.
HEADS = re.compile(r'\.(bbox_|mask_|mask_iou_|query_)?head(\.\d+)?$')


class Head(NamedTuple):
    """A head as described in a config.

    Attributes:
        key: Its place in the config, such as ``'model.bbox_head'``.
        cfg: Its settings.
        kind: Its class; None if not known.
    """

    key: str
    cfg: Mapping[str, Any]
    kind: Any

    def classes(self) -> tuple[int | None, str]:
        """Returns ``num_classes`` (None if not known), and ``' by default'`` if the config does not set it."""
        if self.cfg.get('class_agnostic'):
            return None, ''
        given = 'num_classes' in self.cfg
        number = self.cfg['num_classes'] if given else _default(self.kind)
        return (number, '' if given else ' by default') if isinstance(number, int) else (None, '')


def check_classes(
    sets: Iterable[DescribedSet], heads: Iterable[Head], trained: Sequence[str] = (), checkpoint: str | None = None
) -> None:
    """Raises if heads, data sets and annotation files of a job have different classes, before anything is built.

    Not checked: data sets whose classes are only known after reading, and heads without ``num_classes``.

    Args:
        sets: Data sets of the job.
        heads: Heads of its model; none if the model is not used.
        trained: Classes of a checkpoint's training, if its weights are not trained further.
        checkpoint: Name of the checkpoint.

    Raises:
        DetNASError: If classes differ. The message names both places and their values.
    """
    labels = {name: (label, f'the checkpoint {checkpoint}') for label, name in enumerate(trained)}
    counts = [(head.key, *head.classes()) for head in heads]
    for one in sets:
        classes, where = one.classes()
        if classes is None:
            continue
        if isinstance(classes, str):
            raise DetNASError(f"{where} must be a tuple of names, such as ('{classes}',); got the string {classes!r}.")
        times = Counter(classes)
        twice = [name for name in times if times[name] > 1]
        if twice and (one.is_coco or one.is_voc):
            raise DetNASError(
                f'{where} names {twice[0]!r} {times[twice[0]]} times, but mmdet selects classes by name: list '
                f'each class once.'
            )
        file = one.file
        counted = ''
        if one.is_coco and file is not None and file.is_file():
            names = coco_categories(file)
            known = set(classes)
            compare_classes(str(file), names, [key for key, name in names.items() if name in known], classes, where)
            counted = f'; {file} has {len(names)} categories'
        for head, number, source in counts:
            if number not in (None, len(classes)):
                raise DetNASError(
                    f'{head}.num_classes is {number}{source}, but {one.key} has {len(classes)} classes: '
                    f'{_some(classes)} ({where}{counted}). Set {head}.num_classes={len(classes)}, or change the '
                    f'classes.'
                )
        for label, name in enumerate(classes):
            if times[name] > 1:  # ImageNet has two classes named crane
                continue
            other, place = labels.setdefault(name, (label, where))
            if other != label:
                raise DetNASError(
                    f'{name!r} has label {label} in {where}, but label {other} in {place}: a model identifies classes '
                    f'by their labels. List the classes in the same order in metainfo.classes and in the categories of '
                    f'all annotation files.'
                )


def _some(classes: Sequence[Any]) -> str:
    shown = ', '.join(repr(name) for name in classes[:3])
    return f'{shown}, …' if len(classes) > 3 else shown


def _default(kind: Any) -> Any:
    """Returns the default of ``num_classes`` in a head's class; None if it has no such argument."""
    for base in getattr(kind, '__mro__', ()):
        init = vars(base).get('__init__')
        argument = inspect.signature(init).parameters.get('num_classes') if inspect.isfunction(init) else None
        if argument is not None:
            return argument.default
    return None
