"""Partial-order pruning: candidates that cannot reach the front, since a larger one that was trained does not either.

Li et al., Partial Order Pruning, CVPR 2019. A net that comes before another one, being shallower at equal width or
narrower at equal depth, is expected to be no better. For a trained net w, the fastest trained net that is at least as
good is looked up; whatever comes before w and is no faster than that one is dropped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnas_mm.errors import DetNASError
from detnas_mm.search.fronts import Stage, training_budget
from detnas_mm.search.objective import Objective, pareto_front
from detnas_mm.search.record import Record
from detnas_mm.spaces import SearchSpace
from detnas_mm.systems.sm_nas.modules import Modules, precedes

#: Whether the first of two nets is a smaller relative of the second, from which nothing better is expected.
Order = Callable[[Any, Any], bool]


def order_of(space: SearchSpace) -> Order | None:
    """The partial order of a space: its method ``precedes``; None where it has none."""
    return getattr(space, 'precedes', None)


@dataclass(frozen=True)
class Judged:
    """What pruning has to know of a net that was trained.

    Attributes:
        arch: The net, as the order takes it.
        gain: How good it is, larger is better.
        cost: Its latency.
        spread: By how much the latency is uncertain, in its unit; 0 for a cost that is counted.
        budget: What it was trained for; nets of unequal ones are not compared.
    """

    arch: Any
    gain: float
    cost: float
    spread: float = 0.0
    budget: Any = None


@dataclass(frozen=True)
class Pruned:
    """Why a candidate is dropped.

    Attributes:
        larger: The trained net that it comes before.
        faster: The trained net, at least as good as that one, that the candidate is no faster than.
    """

    larger: Judged
    faster: Judged


class Pruning:
    """Which candidates nets that were trained rule out.

    Args:
        trained: Successful ones alone: a failed one says nothing.
        precedes: The partial order.
        budget: What candidates are to be trained for; nets that were trained for something else say nothing of them.
    """

    def __init__(self, trained: Iterable[Judged], precedes: Order, budget: Any = None) -> None:
        self.precedes = precedes
        best_first = sorted((one for one in trained if one.budget == budget), key=lambda one: (-one.gain, one.cost))
        self._pairs: list[Pruned] = []
        start = 0
        fastest: Judged | None = None
        while start < len(best_first):  # nets that are equally good together: each is at least as good as the others
            level = [one for one in best_first[start:] if one.gain == best_first[start].gain]
            fastest = min([*([fastest] if fastest else []), *level], key=lambda one: one.cost)
            self._pairs += [Pruned(one, fastest) for one in level]
            start += len(level)

    def concerns(self, arch: Any) -> bool:
        """Whether a candidate comes before any net that was trained; only then its cost matters."""
        return any(self.precedes(arch, pair.larger.arch) for pair in self._pairs)

    def reason(self, arch: Any, cost: float, spread: float = 0.0) -> Pruned | None:
        """Why a candidate is dropped; None if it is not.

        Costs that differ by less than the larger of both spreads are a tie, and a tie drops nothing. Without spread a
        candidate that is exactly as fast is dropped.

        Args:
            arch: The candidate.
            cost: Its latency.
            spread: See :class:`Judged`.
        """
        for pair in self._pairs:
            slower_by = cost - pair.faster.cost
            if slower_by >= max(spread, pair.faster.spread) and self.precedes(arch, pair.larger.arch):
                return pair
        return None


@dataclass(frozen=True)
class Effect:
    """What pruning would have done to a search that is finished.

    Attributes:
        rows: Successful candidates of the search.
        spared: Those of them that it would not have trained.
        front: The front as it was found.
        kept: The front of those that remain.
    """

    rows: list[Record]
    spared: list[Record]
    front: list[Record]
    kept: list[Record]

    @property
    def lost(self) -> list[Record]:
        """Members of the front that would not have been trained."""
        spared = {record.id for record in self.spared}
        return [record for record in self.front if record.id in spared]


def replay(
    records: Sequence[Record],
    objectives: Sequence[Objective],
    read: Callable[[str], Any],
    order: Order,
    spread: Callable[[Record], float] = lambda record: 0.0,
) -> Effect:
    """Replays a finished search and counts what partial-order pruning would have spared, and what it would have cost.

    A generation is judged by rows of the generations before it that pruning leaves. What the search would have trained
    in the place of what it spares nobody knows; it is not counted.

    Args:
        records: All rows of a ledger.
        objectives: Two: how good a net is, and its latency.
        read: Reads a row's text, as the order takes it.
        order: The partial order.
        spread: Spread of a row's latency, see :class:`Judged`.
    """
    ok = [record for record in records if record.ok]
    archs = {record.id: read(record.arch) for record in ok}
    kept: list[Record] = []
    spared: list[Record] = []
    for generation in sorted({record.generation for record in ok}):
        own = [record for record in ok if record.generation == generation]
        prunings = {
            repr(budget): Pruning(judged(kept, objectives, archs, spread), order, budget)
            for budget in map(training_budget, own)
        }
        staying: list[Record] = []
        for record in own:
            pruning = prunings[repr(training_budget(record))]
            cost = -objectives[1].gain(record)
            (staying if pruning.reason(archs[record.id], cost, spread(record)) is None else spared).append(record)
        kept += staying
    return Effect(ok, spared, pareto_front(ok, objectives), pareto_front(kept, objectives))


def judged(
    records: Iterable[Record],
    objectives: Sequence[Objective],
    archs: Mapping[str, Any],
    spread: Callable[[Record], float],
) -> list[Judged]:
    """Rows as pruning takes them; failed ones and ones that were dropped early are left out."""
    return [
        Judged(
            archs[record.id],
            objectives[0].gain(record),
            -objectives[1].gain(record),
            spread(record),
            training_budget(record),
        )  # fmt: skip
        for record in records
        if record.ok
    ]


#: What a search writes of its pruning.
NOTES = 'pruning.json'


def read_notes(folder: str | Path) -> tuple[int | None, dict[str, float]]:
    """How many candidates a search has spared, and the spreads of its rows' latencies by their id.

    Args:
        folder: Of the search.

    Returns:
        None and nothing where it has noted neither, as searches by other strategies.

    Raises:
        DetNASError: If the file is damaged.
    """
    file = Path(folder, NOTES)
    if not file.is_file():
        return None, {}
    try:
        found = json.loads(file.read_text())
        return len(found['spared']), {str(name): float(value) for name, value in found['spreads'].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DetNASError(f'{file} is damaged ({error!r}); the search writes it when it is started again.') from error


def replay_stage(stage: Stage, objectives: Sequence[Objective], spread: float | Mapping[str, float]) -> Effect | None:
    """Replays pruning on the ledger of a search, see :func:`replay`.

    Args:
        stage: The search.
        objectives: Two: how good a net is, and its latency.
        spread: Of all rows' latencies, or by their id; 0 where none is noted.

    Returns:
        None if it is no search of a ``ModularSpace``, whose texts alone say what precedes what.
    """
    if (stage.header.get('space') or {}).get('type') != 'ModularSpace':
        return None

    def of(record: Record) -> float:
        return spread.get(record.id, 0.0) if isinstance(spread, Mapping) else spread

    return replay(stage.records, objectives, Modules.parse, precedes, of)
