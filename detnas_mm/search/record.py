"""What the search knows of one candidate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

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
        images: How many images it was judged on, where it was judged on images.
        partial: Metrics on the first so many of these images, by that number: never to be compared with ``metrics``.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    failure: str | None = None
    time: dict[str, float] = field(default_factory=dict)
    dropped: str | None = None
    images: int | None = None
    partial: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """``'ok'``, ``'failed'``, or ``'dropped'``."""
        return 'failed' if self.failure is not None else 'ok' if self.dropped is None else 'dropped'


class EvaluatorLike(Protocol):
    """The part of an evaluator that the searcher uses."""

    def evaluate(self, archs: Sequence[Architecture]) -> Iterator[Evaluation]:
        """Yields one evaluation for each architecture, in order."""

    def spec(self) -> dict[str, Any]:
        """The settings that make two evaluations comparable, JSON-ready."""

    def observe(self, records: Sequence[Record], objectives: Sequence[Any]) -> None:
        """Takes all rows of finished generations, before the next one is evaluated."""


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
        images: See :class:`Evaluation`.
        partial: See :class:`Evaluation`.
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
    images: int | None = None
    partial: dict[str, dict[str, float]] = field(default_factory=dict)

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
            ValueError: If fields are missing or unknown.
        """
        try:
            return cls(**(row | {'parents': tuple(row['parents'])}))
        except (TypeError, KeyError) as error:
            raise ValueError(f'not a ledger row: {error}') from error
