"""What a search space holds: one architecture, as an immutable value."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from detnas_mm.errors import DetNASError


def _freeze(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_freeze(item) for item in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, 'item') and getattr(value, 'ndim', 0) == 0:  # a numpy scalar
        return value.item()
    raise DetNASError(
        f'An architecture is made of numbers, strings, None and sequences of these; got {value!r} '
        f'of type {type(value).__name__}.'
    )


def _thaw(value: Any) -> Any:
    return [_thaw(item) for item in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Architecture:
    """One point of a search space.

    It carries the decisions alone ("genes"); what they mean is the business of the
    :class:`~detnas_mm.spaces.base.SearchSpace` that made it.

    Args:
        genes: Numbers, strings, None and (nested) sequences of these. Lists become tuples.

    Raises:
        DetNASError: If a gene is of another type.
    """

    genes: tuple

    def __post_init__(self) -> None:
        object.__setattr__(self, 'genes', _freeze(tuple(self.genes)))

    @cached_property
    def id(self) -> str:
        """12 hexadecimal digits that depend on the genes alone: equal in every run and on every machine."""
        text = json.dumps(_thaw(self.genes), separators=(',', ':'))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_json(self) -> list:
        """The genes as JSON-ready lists; :meth:`from_json` reads them back."""
        return _thaw(self.genes)

    @classmethod
    def from_json(cls, genes: list) -> Architecture:
        """The inverse of :meth:`to_json`."""
        return cls(tuple(genes))
