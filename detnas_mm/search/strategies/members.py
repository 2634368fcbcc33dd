"""The members of a population as arrays, and the phases in which they change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detnas_mm.errors import DetNASError


@dataclass(frozen=True)
class Population:
    """The best so far, as arrays, the best first.

    Attributes:
        codes: Shape (members, genes), see :meth:`SearchSpace.encode`.
        gains: Shape (members,), the larger the better.
        born: Shape (members,), the snapshot in which each came in; -1 for those that it began with.
        drawn: Candidates drawn up to here.
        evaluated: How many of them were scored.
    """

    codes: np.ndarray
    gains: np.ndarray
    born: np.ndarray
    drawn: int = 0
    evaluated: int = 0


#: Odd numbers that rows are hashed with, the same in every run.
_FACTORS = np.random.default_rng(0).integers(1 << 62, size=512, dtype=np.int64) * 2 + 1


def _hashes(codes: np.ndarray) -> np.ndarray:
    """64 bits a row; two different rows share them once in 10**19 pairs, and then one of them is dropped."""
    mixed = codes * _FACTORS[: codes.shape[1]]
    return (mixed ^ (mixed >> 29)).sum(axis=1)


def new_rows(codes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Rows that are not known, each once, in their order."""
    hashes = _hashes(codes)
    _, first = np.unique(hashes, return_index=True)
    first.sort()
    return codes[first[~np.isin(hashes[first], _hashes(known))]]


def checked_phases(
    phases: Sequence[Mapping[str, Any]] | None,
) -> list[tuple[tuple[str, ...] | None, int | None]]:
    """Pairs of (kinds, generations), the last without an end."""
    found: list[tuple[tuple[str, ...] | None, int | None]] = []
    given = [dict(phase) for phase in phases] if phases is not None else [{}]
    for number, phase in enumerate(given):
        last = number + 1 == len(given)
        kinds, generations = phase.pop('kinds', None), phase.pop('generations', None)
        fits = generations is None if last else type(generations) is int and generations >= 1
        if phase or not fits or (kinds is not None and (isinstance(kinds, str) or not kinds)):
            raise DetNASError(
                f'Phase {number} of strategy.phases must be dict(kinds=[…], generations=…), the last one without '
                f'generations, since it lasts to the end; got {dict((phases or [{}])[number])}.'
            )
        found.append((None if kinds is None else tuple(kinds), generations))
    if not found:
        raise DetNASError('strategy.phases is empty: give at least one, or leave it out.')
    return found
