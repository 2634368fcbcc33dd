"""Data of one candidate: proposal, evaluation, and row of the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from detnas_mm.spaces import Architecture

#: Fields that may differ between two runs of the same search.
VOLATILE = ('time', 'host', 'attempt')
#: Reason, or its beginning, of a candidate that failed since its model detects nothing.
NO_DETECTIONS = 'no detections on search-val'


@dataclass(frozen=True)
class Proposal:
    """A candidate that a strategy proposes for evaluation.

    Attributes:
        arch: The architecture.
        origin: Its origin: ``'random'``, ``'mutation'``, ``'crossover'``, …
        parents: Ids of its parents.
    """

    arch: Architecture
    origin: str = 'random'
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """Result of evaluating one architecture.

    Attributes:
        metrics: Unrounded values by name, such as ``{'coco/bbox_mAP': 0.3127…}``; empty if it failed or was dropped.
        failure: Reason of the failure, or None.
        time: Seconds by phase.
        dropped: Reason for stopping its evaluation early, or None, see ``Racing``.
        details: Further results by name: JSON-ready values, which the search itself never compares between candidates.
        lost: Reason why there is no result, or None: the machine that evaluated it is gone. No row is written, and it
            is evaluated again.
        host: Machine that evaluated it; empty for this one.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    failure: str | None = None
    time: dict[str, float] = field(default_factory=dict)
    dropped: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    lost: str | None = None
    host: str = ''

    @property
    def status(self) -> str:
        """``'ok'``, ``'failed'``, ``'dropped'``, or ``'lost'``."""
        if self.lost is not None:
            return 'lost'
        return 'failed' if self.failure is not None else 'ok' if self.dropped is None else 'dropped'


@dataclass(frozen=True)
class Record:
    """One evaluated candidate: a row of the ledger.

    Attributes:
        index: Position in the ledger, from 0.
        generation: Generation in which it was proposed.
        id: The architecture's id.
        arch: The architecture as :meth:`SearchSpace.describe` writes it.
        origin: See :class:`Proposal`.
        parents: See :class:`Proposal`.
        status: ``'ok'``, ``'failed'`` or ``'dropped'``, see :class:`Evaluation`.
        reason: Reason for failing or being dropped, or None.
        metrics: See :class:`Evaluation`.
        costs: Costs by name.
        time: Seconds by phase.
        host: Machine that evaluated it.
        attempt: Number of starts of the search when this row was written.
        details: See :class:`Evaluation`.
    """

    index: int
    generation: int
    id: str
    arch: str
    origin: str
    parents: tuple[str, ...]
    status: str
    reason: str | None
    metrics: dict[str, float]
    costs: dict[str, float]
    time: dict[str, float] = field(default_factory=dict)
    host: str = ''
    attempt: int = 1
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True if the evaluation was completed; failed and dropped candidates are never among the best."""
        return self.status == 'ok'

    def to_json(self) -> dict[str, Any]:
        """Returns the row as a JSON object."""
        return vars(self) | {'parents': list(self.parents)}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Record:
        """Reads a row written by :meth:`to_json`.

        Raises:
            ValueError: If fields are missing, unknown, or of another type.
        """
        try:
            record = cls(**(row | {'parents': tuple(row['parents'])}))
        except (TypeError, KeyError) as error:
            raise ValueError(f'not a ledger row: {error}') from error
        for numbers in (record.metrics, record.costs, record.time):
            if not isinstance(numbers, dict) or not all(map(_is_number, numbers.values())):
                raise ValueError(
                    f'not a ledger row: metrics, costs and time must be finite numbers by name, not {numbers!r}'
                )
        if record.status not in ('ok', 'failed', 'dropped'):
            raise ValueError(f"not a ledger row: its status is {record.status!r}, not 'ok', 'failed' or 'dropped'")
        counts = (record.generation, record.attempt)
        if not all(type(n) is int for n in counts) or not all(isinstance(t, str) for t in (record.id, record.arch)):
            raise ValueError('not a ledger row: generation and attempt must be whole numbers, id and arch text')
        if not isinstance(record.details, dict) or not all(map(_is_finite, record.details.values())):
            raise ValueError(f'not a ledger row: details must be finite values by name, not {record.details!r}')
        return record


def _is_finite(value: Any) -> bool:
    """Returns True if a JSON value contains no infinite number."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (not isinstance(value, float) or isfinite(value)) and all(map(_is_finite, parts))


def _is_number(value: Any) -> bool:
    """Returns True for finite numbers: Python reads 1e999 as infinity, which would win every search."""
    return type(value) is int or (type(value) is float and isfinite(value))


@dataclass(frozen=True)
class Snapshot:
    """The population after many candidates: a line of a ledger that has no row for each candidate.

    Attributes:
        generation: Number of the snapshot, from 0.
        drawn: Candidates drawn so far.
        evaluated: Number of them that were new and feasible, and so were scored.
        population: The best candidates as rows, with their rank as index and the generation in which they entered.
        time: Seconds since the snapshot before.
        host: Machine that made it.
        attempt: Number of starts of the search when it was written.
    """

    generation: int
    drawn: int
    evaluated: int
    population: tuple[Record, ...]
    time: float = 0.0
    host: str = ''
    attempt: int = 1

    def to_json(self) -> dict[str, Any]:
        """Returns the snapshot as a JSON object; fields that are empty in all rows are left out."""
        rows = [{k: v for k, v in r.to_json().items() if v not in ({}, [], None, '')} for r in self.population]
        return vars(self) | dict(population=rows)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Snapshot:
        """Reads a snapshot written by :meth:`to_json`.

        Raises:
            ValueError: If fields are missing or unknown.
        """
        try:
            empty: dict[str, Any] = dict(parents=[], reason=None, metrics={}, costs={})
            population = tuple(Record.from_json(empty | one) for one in row['population'])
            return cls(**(row | dict(population=population)))
        except (TypeError, KeyError) as error:
            raise ValueError(f'not a snapshot: {error}') from error
