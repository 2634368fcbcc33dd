"""An architecture as an immutable value: the decisions ("genes") that a search space draws."""

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
        f'Genes of an architecture must be numbers, strings, None or sequences of these; got {value!r} '
        f'of type {type(value).__name__}.'
    )


def _thaw(value: Any) -> Any:
    return [_thaw(item) for item in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Architecture:
    """One point of a search space, as a value that can be compared, hashed and written to JSON.

    It holds the decisions alone ("genes"). The :class:`~detnas_mm.spaces.base.SearchSpace` that made it knows what they
    mean.

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
        """Short hash of the genes (12 hexadecimal digits): equal in every run and on every machine."""
        text = json.dumps(_thaw(self.genes), separators=(',', ':'))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_json(self) -> list:
        """Returns the genes as JSON-ready lists; :meth:`from_json` reads them back."""
        return _thaw(self.genes)

    @classmethod
    def from_json(cls, genes: list) -> Architecture:
        """Inverts :meth:`to_json`."""
        return cls(tuple(genes))
