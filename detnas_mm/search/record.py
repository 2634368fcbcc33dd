"""What the search knows of one candidate."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from detnas_mm.spaces import Architecture

#: Fields that may differ between two runs that are otherwise the same search.
VOLATILE = ('time', 'host', 'attempt')


@dataclass(frozen=True)
class Proposal:
    """A candidate that a strategy asks to be evaluated.

    Attributes:
        arch: The architecture.
        origin: How it came about: ``'random'``, ``'mutation'``, ``'crossover'``, …
        parents: Ids of the architectures it was made from.
    """

    arch: Architecture
    origin: str = 'random'
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """What an evaluator found out about one architecture.

    Attributes:
        metrics: Unrounded values by name, such as ``{'coco/bbox_mAP': 0.3127…}``; empty if it failed or was dropped.
        failure: Why it failed, or None.
        time: Seconds by phase.
        dropped: Why its evaluation stopped early, or None: it had no prospect, see ``Racing``.
        details: What else the evaluator has to say of it, by name: JSON-ready values, never compared between
            candidates by the search itself.
        lost: Why nobody knows how it did, or None: the machine that evaluated it is gone. No row is written; it is
            tried again.
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
        generation: Generation it was asked for in.
        id: The architecture's id.
        arch: The architecture as :meth:`SearchSpace.describe` writes it.
        origin: See :class:`Proposal`.
        parents: See :class:`Proposal`.
        status: ``'ok'``, ``'failed'`` or ``'dropped'``, see :class:`Evaluation`.
        reason: Why it failed or was dropped, or None.
        metrics: See :class:`Evaluation`.
        costs: Costs by name.
        time: Seconds by phase.
        host: Machine that evaluated it.
        attempt: How often the search had been started when this row was written.
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
        """Whether the evaluation went to its end; candidates that failed or were dropped never win."""
        return self.status == 'ok'

    def to_json(self) -> dict[str, Any]:
        """The row as a JSON object."""
        return vars(self) | {'parents': list(self.parents)}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Record:
        """The inverse of :meth:`to_json`.

        Raises:
            ValueError: If fields are missing, unknown, or of another type.
        """
        try:
            record = cls(**(row | {'parents': tuple(row['parents'])}))
        except (TypeError, KeyError) as error:
            raise ValueError(f'not a ledger row: {error}') from error
        for numbers in (record.metrics, record.costs, record.time):
            if not isinstance(numbers, dict) or not all(map(_is_number, numbers.values())):
                raise ValueError(f'not a ledger row: finite numbers by name are wanted, not {numbers!r}')
        if record.status not in ('ok', 'failed', 'dropped'):
            raise ValueError(f"not a ledger row: its status is {record.status!r}, not 'ok', 'failed' or 'dropped'")
        counts = (record.generation, record.attempt)
        if not all(type(n) is int for n in counts) or not all(isinstance(t, str) for t in (record.id, record.arch)):
            raise ValueError('not a ledger row: generation and attempt must be whole numbers, id and arch text')
        if not isinstance(record.details, dict) or not all(map(_is_finite, record.details.values())):
            raise ValueError(f'not a ledger row: details must be finite values by name, not {record.details!r}')
        return record


def _is_finite(value: Any) -> bool:
    """Whether there is no infinite number in a JSON value."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (not isinstance(value, float) or isfinite(value)) and all(map(_is_finite, parts))


def _is_number(value: Any) -> bool:
    """JSON reads 1e999 as infinity, which would win every search."""
    return type(value) is int or (type(value) is float and isfinite(value))


@dataclass(frozen=True)
class Snapshot:
    """The population after many candidates, where these are too many for a row each: a line of the ledger.

    Attributes:
        generation: Number of the snapshot, from 0.
        drawn: Candidates drawn up to here.
        evaluated: How many of them were new and feasible, and so were scored.
        population: The best, each as a row whose index is its rank and whose generation is the one it came in.
        time: Seconds since the snapshot before.
        host: Machine that made it.
        attempt: How often the search had been started when it was written.
    """

    generation: int
    drawn: int
    evaluated: int
    population: tuple[Record, ...]
    time: float = 0.0
    host: str = ''
    attempt: int = 1

    def to_json(self) -> dict[str, Any]:
        """The snapshot as a JSON object; fields that all rows leave empty are left out."""
        rows = [{k: v for k, v in r.to_json().items() if v not in ({}, [], None, '')} for r in self.population]
        return vars(self) | dict(population=rows)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Snapshot:
        """The inverse of :meth:`to_json`.

        Raises:
            ValueError: If fields are missing or unknown.
        """
        try:
            empty: dict[str, Any] = dict(parents=[], reason=None, metrics={}, costs={})
            population = tuple(Record.from_json(empty | one) for one in row['population'])
            return cls(**(row | dict(population=population)))
        except (TypeError, KeyError) as error:
            raise ValueError(f'not a snapshot: {error}') from error
