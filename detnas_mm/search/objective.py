"""Objectives of a search, and the Pareto front of its rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from detnas_mm.errors import DetNASError
from detnas_mm.search.pareto import crowding_distances, front_ranks
from detnas_mm.search.record import Record


@dataclass(frozen=True)
class Objective:
    """A metric or a cost to maximise or minimise.

    Args:
        name: A metric of the evaluator, such as ``'coco/bbox_mAP'``, or a cost of the search, such as ``'macs'``.
        direction: ``'maximize'`` or ``'minimize'``.

    Raises:
        ValueError: If the direction is neither.
    """

    name: str
    direction: str = 'maximize'

    def __post_init__(self) -> None:
        if self.direction not in ('maximize', 'minimize'):
            raise DetNASError(
                f"The direction of objective {self.name!r} must be 'maximize' or 'minimize'; got {self.direction!r}."
            )

    def value(self, record: Record) -> float:
        """Returns the value of the objective in a successful record."""
        return record.metrics[self.name] if self.name in record.metrics else record.costs[self.name]

    def gain(self, record: Record) -> float:
        """Returns the value, negated if it is minimised: larger is better."""
        return self.value(record) if self.direction == 'maximize' else -self.value(record)

    def best_first(self, records: Iterable[Record]) -> list[Record]:
        """Sorts successful records, the best first; ties are broken by lower costs, then by id."""
        ok = [r for r in records if r.ok]
        return sorted(ok, key=lambda r: (-self.gain(r), *r.costs.values(), r.id))


def pareto_front(records: Iterable[Record], objectives: Sequence[Objective]) -> list[Record]:
    """Returns the non-dominated records among the successful ones, sorted by the first objective."""
    ok = objectives[0].best_first(records)
    ranks = front_ranks(np.array([[objective.gain(record) for objective in objectives] for record in ok]))
    return [record for record, rank in zip(ok, ranks, strict=True) if rank == 0]


def thinned(front: Sequence[Record], objectives: Sequence[Objective], count: int | None) -> list[Record]:
    """Thins a front to ``count`` records: removes the one with the smallest crowding distance, repeatedly.

    Args:
        front: Result of :func:`pareto_front`.
        objectives: Its objectives.
        count: Number of records to keep, 1 or more; None for all.
    """
    kept = list(front)
    while count is not None and len(kept) > count:
        gains = np.array([[objective.gain(record) for objective in objectives] for record in kept])
        del kept[int(np.argmin(crowding_distances(gains)))]
    return kept
