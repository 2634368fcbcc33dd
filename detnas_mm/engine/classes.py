"""Classes of heads, data sets and annotation files, held against one another by a config alone."""

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

#: Places of heads that tell classes apart. An RPN's does not, and that of a semantic branch has classes of its own.
HEADS = re.compile(r'\.(bbox_|mask_|mask_iou_|query_)?head(\.\d+)?$')


class Head(NamedTuple):
    """A head as a config describes it.

    Attributes:
        key: Where it stands, such as ``'model.bbox_head'``.
        cfg: Its settings.
        kind: Its class; None if it is not known.
    """

    key: str
    cfg: Mapping[str, Any]
    kind: Any

    def classes(self) -> tuple[int | None, str]:
        """Returns ``num_classes``, None if it is not known, and ``' by default'`` where the config does not set it."""
        if self.cfg.get('class_agnostic'):
            return None, ''
        given = 'num_classes' in self.cfg
        number = self.cfg['num_classes'] if given else _default(self.kind)
        return (number, '' if given else ' by default') if isinstance(number, int) else (None, '')


def check_classes(
    sets: Iterable[DescribedSet], heads: Iterable[Head], trained: Sequence[str] = (), checkpoint: str | None = None
) -> None:
    """Refuses a job whose heads, data sets and annotation files have other classes, before anything is built.

    Sets whose classes are not known before they are read, and heads without ``num_classes``, are left alone.

    Args:
        sets: The data sets that it reads.
        heads: Those of its model; none if the model is not used.
        trained: Classes that the weights of a checkpoint were trained on, if they are used as they are.
        checkpoint: Its name.

    Raises:
        DetNASError: Names both places and what stands there.
    """
    labels = {name: (label, f'the checkpoint {checkpoint}') for label, name in enumerate(trained)}
    counts = [(head.key, *head.classes()) for head in heads]
    for one in sets:
        classes, where = one.classes()
        if classes is None:
            continue
        if isinstance(classes, str):
            raise DetNASError(f"{where} is {classes!r}, one text: give a tuple of names, such as ('{classes}',).")
        times = Counter(classes)
        twice = [name for name in times if times[name] > 1]
        if twice and (one.is_coco or one.is_voc):
            raise DetNASError(
                f'{where} names {twice[0]!r} {times[twice[0]]} times, and mmdet finds classes by their names: name '
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
                    f'{head}.num_classes is {number}{source}, and {one.key} has {len(classes)} classes: '
                    f'{_some(classes)} ({where}{counted}). Give both the same.'
                )
        for label, name in enumerate(classes):
            if times[name] > 1:  # ImageNet has two cranes
                continue
            other, place = labels.setdefault(name, (label, where))
            if other != label:
                raise DetNASError(
                    f'{name!r} has label {label} by {where}, and label {other} by {place}: a model knows classes by '
                    f'their labels. List the classes in one order everywhere, metainfo.classes and the categories of '
                    f'the annotation files.'
                )


def _some(classes: Sequence[Any]) -> str:
    shown = ', '.join(repr(name) for name in classes[:3])
    return f'{shown}, …' if len(classes) > 3 else shown


def _default(kind: Any) -> Any:
    """What a head's class takes for ``num_classes``; None if it has no such argument."""
    for base in getattr(kind, '__mro__', ()):
        init = vars(base).get('__init__')
        argument = inspect.signature(init).parameters.get('num_classes') if inspect.isfunction(init) else None
        if argument is not None:
            return argument.default
    return None
