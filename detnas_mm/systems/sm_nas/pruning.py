"""Partial-order pruning: drops candidates that are dominated if a net is no better than its larger relatives.

Li et al., Partial Order Pruning, CVPR 2019. A net that precedes another one (shallower at equal width, or narrower at
equal depth) is expected to be no more accurate. For each trained net w, pruning finds the fastest trained net that is
at least as accurate; a candidate that precedes w and is not faster than this net is dropped.
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

#: Returns whether the first of two nets precedes the second, so that it is expected to be no more accurate.
Order = Callable[[Any, Any], bool]


def order_of(space: SearchSpace) -> Order | None:
    """Returns the method ``precedes`` of a space, its partial order; None if it has none."""
    return getattr(space, 'precedes', None)


@dataclass(frozen=True)
class Judged:
    """A trained net as pruning compares it.

    Attributes:
        arch: The net, as an argument of the partial order.
        gain: Its metric; larger is better.
        cost: Its latency or another cost.
        spread: Uncertainty of the cost, in its unit; 0 for a cost that is counted.
        budget: Its training budget (epochs or iterations); nets of different budgets are not compared.
    """

    arch: Any
    gain: float
    cost: float
    spread: float = 0.0
    budget: Any = None


@dataclass(frozen=True)
class Pruned:
    """Reason for dropping a candidate.

    Attributes:
        larger: Trained net that the candidate precedes.
        faster: Trained net that is at least as good as ``larger`` and at least as fast as the candidate.
    """

    larger: Judged
    faster: Judged


class Pruning:
    """Decides which candidates are dropped, given the trained nets.

    Args:
        trained: Successfully trained nets.
        precedes: The partial order.
        budget: Training budget of the candidates; trained nets of other budgets are ignored.
    """

    def __init__(self, trained: Iterable[Judged], precedes: Order, budget: Any = None) -> None:
        self.precedes = precedes
        best_first = sorted((one for one in trained if one.budget == budget), key=lambda one: (-one.gain, one.cost))
        self._pairs: list[Pruned] = []
        start = 0
        fastest: Judged | None = None
        while start < len(best_first):  # equally good nets together, since each is at least as good as the others
            level = [one for one in best_first[start:] if one.gain == best_first[start].gain]
            fastest = min([*([fastest] if fastest else []), *level], key=lambda one: one.cost)
            self._pairs += [Pruned(one, fastest) for one in level]
            start += len(level)

    def concerns(self, arch: Any) -> bool:
        """Returns whether a candidate precedes a trained net; only then its cost is needed."""
        return any(self.precedes(arch, pair.larger.arch) for pair in self._pairs)

    def reason(self, arch: Any, cost: float, spread: float = 0.0) -> Pruned | None:
        """Returns the reason for dropping a candidate; None if it is kept.

        Costs that differ by less than the larger of both spreads are a tie, and ties are kept. If both spreads are 0, a
        candidate of equal cost is dropped.

        Args:
            arch: The candidate.
            cost: Its latency or another cost.
            spread: See :class:`Judged`.
        """
        for pair in self._pairs:
            slower_by = cost - pair.faster.cost
            if slower_by >= max(spread, pair.faster.spread) and self.precedes(arch, pair.larger.arch):
                return pair
        return None


@dataclass(frozen=True)
class Effect:
    """Effect that pruning would have had on a finished search.

    Attributes:
        rows: Successful candidates of the search.
        spared: Those that pruning would not have trained.
        front: The Pareto front of all rows.
        kept: The Pareto front without spared rows.
    """

    rows: list[Record]
    spared: list[Record]
    front: list[Record]
    kept: list[Record]

    @property
    def lost(self) -> list[Record]:
        """Members of the front that pruning would not have trained."""
        spared = {record.id for record in self.spared}
        return [record for record in self.front if record.id in spared]


def replay(
    records: Sequence[Record],
    objectives: Sequence[Objective],
    read: Callable[[str], Any],
    order: Order,
    spread: Callable[[Record], float] = lambda record: 0.0,
) -> Effect:
    """Replays a finished search to find which candidates pruning would have spared and lost.

    Each generation is compared with the rows of earlier generations that pruning keeps. Candidates that the search
    would have trained instead of the spared ones are unknown and not counted.

    Args:
        records: All rows of a ledger.
        objectives: A metric and a cost.
        read: Parses the text of a row for the partial order.
        order: The partial order.
        spread: Returns the spread of a row's cost, see :class:`Judged`.
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
    """Converts rows for :class:`Pruning`, without those that failed or were dropped early."""
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


#: File in the folder of a search that lists spared candidates and spreads.
NOTES = 'pruning.json'


def read_notes(folder: str | Path) -> tuple[int | None, dict[str, float]]:
    """Reads the number of candidates that a search has spared, and the spread of each row's cost by id.

    Args:
        folder: Folder of the search.

    Returns:
        ``(None, {})`` if it has no :data:`NOTES`, as with other strategies.

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
        raise DetNASError(
            f'{file} is damaged ({error!r}). Start the search again: it writes the file again.'
        ) from error


def replay_stage(stage: Stage, objectives: Sequence[Objective], spread: float | Mapping[str, float]) -> Effect | None:
    """Replays pruning on the ledger of a search, see :func:`replay`.

    Args:
        stage: The search.
        objectives: A metric and a cost, in any order.
        spread: Spread of the cost: one for all rows, or by id (0 for rows that are missing).

    Returns:
        None if the search is not of a ``ModularSpace``: other spaces have no partial order.
    """
    if (stage.header.get('space') or {}).get('type') != 'ModularSpace':
        return None

    def of(record: Record) -> float:
        return spread.get(record.id, 0.0) if isinstance(spread, Mapping) else spread

    costs = (stage.header.get('budget') or {}).get('costs') or {}
    cost_last = sorted(objectives, key=lambda objective: objective.name in costs)
    return replay(stage.records, cost_last, Modules.parse, precedes, of)
