"""The population as arrays, and the phases of its mutation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detnas_mm.errors import DetNASError
from detnas_mm.search.budget import Budget
from detnas_mm.search.record import Record
from detnas_mm.spaces import ArraySpace


@dataclass(frozen=True)
class Population:
    """The best candidates so far as arrays, the best first.

    Attributes:
        codes: Shape (members, genes), see :meth:`SearchSpace.encode`.
        gains: Shape (members,), larger is better.
        born: Shape (members,), the snapshot in which each entered; -1 for initial ones.
        drawn: Candidates drawn so far.
        evaluated: Number of them that were scored.
    """

    codes: np.ndarray
    gains: np.ndarray
    born: np.ndarray
    drawn: int = 0
    evaluated: int = 0

    def with_children(self, children: np.ndarray, gains: np.ndarray, born: int, most: int) -> Population:
        """Returns the best of members and children; ties go to older, then to earlier ones.

        Args:
            children: Rows, shape (children, genes).
            gains: Shape (children,).
            born: The snapshot in which the children enter.
            most: Number of members to keep.
        """
        codes = np.concatenate([self.codes, children])
        gains = np.concatenate([self.gains, gains])
        dates = np.concatenate([self.born, np.full(len(children), born)])
        order = np.argsort(-gains, kind='stable')[:most]
        return replace(self, codes=codes[order], gains=gains[order], born=dates[order])

    def rows(
        self, space: ArraySpace, budget: Budget, first: str, metrics: Callable[[float], dict[str, float]]
    ) -> tuple[Record, ...]:
        """Returns the members as rows: the index is the rank, the generation the snapshot in which it entered.

        Args:
            space: The space.
            budget: Computes their costs.
            first: Origin of the initial members; the others are mutations.
            metrics: Metrics of a member by its gain.
        """
        costs = budget.costs_of_codes(self.codes)
        return tuple(
            Record(
                index=rank,
                generation=max(int(self.born[rank]), 0),
                id=arch.id,
                arch=space.describe(arch),
                origin=first if self.born[rank] < 0 else 'mutation',
                parents=(),
                status='ok',
                reason=None,
                metrics=metrics(float(self.gains[rank])),
                costs=costs[rank],
            )
            for rank, arch in enumerate(space.decode(self.codes))
        )


#: Odd factors of the hash of rows, the same in every run.
_FACTORS = np.random.default_rng(0).integers(1 << 62, size=512, dtype=np.int64) * 2 + 1


def _hashes(codes: np.ndarray) -> np.ndarray:
    """Hashes rows to 64 bits; different rows collide once in 10**19 pairs, and one of them is dropped then."""
    mixed = codes * _FACTORS[: codes.shape[1]]
    return (mixed ^ (mixed >> 29)).sum(axis=1)


def new_rows(codes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Returns the rows that are not known, without duplicates, in order."""
    hashes = _hashes(codes)
    _, first = np.unique(hashes, return_index=True)
    first.sort()
    return codes[first[~np.isin(hashes[first], _hashes(known))]]


#: Kinds of genes that may change (None: all) and the number of generations (None: to the end).
Phase = tuple[tuple[str, ...] | None, int | None]


def kinds_in(phases: Sequence[Phase], generation: int) -> tuple[str, ...] | None:
    """Returns the kinds of genes that may change in a generation; None for all."""
    for kinds, generations in phases:
        if generations is None or generation < generations:
            return kinds
        generation -= generations
    raise AssertionError('unreachable: the last phase has no end')


def checked_phases(phases: Sequence[Mapping[str, Any]] | None) -> list[Phase]:
    """Parses the phases of a config; the last one has no end."""
    found: list[Phase] = []
    given = [dict(phase) for phase in phases] if phases is not None else [{}]
    for number, phase in enumerate(given):
        last = number + 1 == len(given)
        kinds, generations = phase.pop('kinds', None), phase.pop('generations', None)
        fits = generations is None if last else type(generations) is int and generations >= 1
        if phase or not fits or (kinds is not None and (isinstance(kinds, str) or not kinds)):
            raise DetNASError(
                f'Phase {number} of strategy.phases must be dict(kinds=[…], generations=…), the last one without '
                f'generations since it lasts to the end; got {dict((phases or [{}])[number])}.'
            )
        found.append((None if kinds is None else tuple(kinds), generations))
    if not found:
        raise DetNASError('strategy.phases is empty: give at least one phase, or leave the key out.')
    return found
