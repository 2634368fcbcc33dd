"""What every search strategy must keep, as one function that a test of a new strategy calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detnas_mm.search import Budget, Constraint, Objective, Proposal, Record, Strategy, UnmeetableConstraint
from detnas_mm.systems.detnas.costs import MacsTable
from detnas_mm.systems.detnas.space import DetNASSpace
from detnas_mm.testing.common import check_json, check_light_import, check_repeatable

#: 4,096 architectures: some generations do not use it up.
SPACE = dict(stem=4, channels=(8, 16, 24), blocks=(2, 2, 2))
#: 64 architectures, which a search uses up.
SMALL_SPACE = dict(stem=4, channels=(8, 16), blocks=(1, 2))
GENERATIONS = 4


def check_strategy(make: Callable[[], Strategy], objectives: Sequence[Objective] = (Objective('score'),)) -> None:
    """Checks that a strategy keeps the contract of :class:`~detnas_mm.search.Strategy`.

    A generation follows from the seed and the rows so far, and from nothing else, so a search that is started again
    goes on as if nothing had happened. No architecture is asked for twice; all meet the constraints; failed ones are
    no parents; a space that is used up and a constraint that nothing meets end the search.

    Args:
        make: Builds a new strategy.
        objectives: What it is to optimise; the rows it is told have these metrics.

    Raises:
        AssertionError: If the contract is broken; says where.
    """
    check_json('spec()', make().spec())
    check_light_import(make())
    _check_generations(make, objectives)
    _check_end(make, objectives)
    _check_unmeetable(make, objectives)


def _set_up(
    make: Callable[[], Strategy],
    objectives: Sequence[Objective],
    constraint: Constraint | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] = SPACE,
) -> Strategy:
    space = DetNASSpace(settings)
    strategy = make()
    budget = Budget(space, dict(macs=MacsTable(space, (64, 64))), [constraint] if constraint else [])
    strategy.setup(space, budget, list(objectives), seed)
    return strategy


def _rows(strategy: Strategy, proposals: Sequence[Proposal], generation: int, first: int) -> list[Record]:
    """Rows as a searcher would write them; every fifth candidate has failed."""
    rows = []
    for index, proposal in enumerate(proposals, first):
        failed = index % 5 == 4
        genes = [int(gene) for gene in proposal.arch.genes]
        metrics = {o.name: genes.count(2 + k % 2) + index % 3 / 10 for k, o in enumerate(strategy.objectives)}
        rows.append(
            Record(
                index=index,
                generation=generation,
                id=proposal.arch.id,
                arch=strategy.space.describe(proposal.arch),
                origin=proposal.origin,
                parents=proposal.parents,
                status='failed' if failed else 'ok',
                reason='told to' if failed else None,
                metrics={} if failed else metrics,
                costs=strategy.budget.costs(proposal.arch),
            )
        )
    return rows


def _check_generations(make: Callable[[], Strategy], objectives: Sequence[Objective]) -> None:
    space = DetNASSpace(SPACE)
    low, high = MacsTable(space, (64, 64)).bounds()
    constraint = Constraint('macs', high=(low + high) / 2)
    strategy = _set_up(make, objectives, constraint)
    other = _set_up(make, objectives, constraint, seed=1)
    told: list[list[Record]] = []
    seen: set[str] = set()
    for generation in range(GENERATIONS):

        def again(_: object, generation: int = generation) -> list[Proposal]:
            replayed = _set_up(make, objectives, constraint)
            for number, rows in enumerate(told):
                replayed.ask(number)
                replayed.tell(rows)
            return replayed.ask(generation)

        proposals = strategy.ask(generation)
        assert proposals, f'generation {generation} is empty, though {space.size - len(seen):,} candidates are left.'
        check_repeatable(f'ask({generation})', again, 0)
        assert again(None) == proposals, (
            f'ask({generation}) of a strategy that was told the same rows gave other candidates: its state must '
            f'follow from the seed and the rows alone, since a resumed search asks and is told again.'
        )
        ids = [proposal.arch.id for proposal in proposals]
        twice = {i for i in ids if ids.count(i) > 1 or i in seen}
        assert not twice, f'generation {generation} asks twice for {sorted(twice)[:3]}.'
        assert strategy.budget.allows([p.arch for p in proposals]).all(), (
            f'generation {generation} has candidates that do not meet {constraint}.'
        )
        parents = {parent for proposal in proposals for parent in proposal.parents}
        ok = {record.id for rows in told for record in rows if record.ok}
        assert parents <= ok, f'generation {generation} has parents that failed or have no row: {parents - ok}.'
        if generation == 0:
            assert other.ask(0) != proposals, 'ask(0) is the same for two seeds.'
        seen.update(ids)
        told.append(_rows(strategy, proposals, generation, len(seen) - len(ids)))
        strategy.tell(told[-1])


def _check_end(make: Callable[[], Strategy], objectives: Sequence[Objective]) -> None:
    """Candidates run out at last, and an empty generation says so."""
    strategy = _set_up(make, objectives, settings=SMALL_SPACE)
    seen: set[str] = set()
    generation = 0
    while proposals := strategy.ask(generation):
        ids = {proposal.arch.id for proposal in proposals}
        assert not ids & seen, (
            f'generation {generation}, after {len(seen):,} candidates of {strategy.space.size:,}, asks again for '
            f'{sorted(ids & seen)[:3]}; where nothing new is found the generation must be empty.'
        )
        strategy.tell(_rows(strategy, proposals, generation, len(seen)))
        seen |= ids
        generation += 1


def _check_unmeetable(make: Callable[[], Strategy], objectives: Sequence[Objective]) -> None:
    table = MacsTable(DetNASSpace(SPACE), (64, 64))
    low, _ = table.bounds()
    strategy = _set_up(make, objectives, Constraint('macs', low=low + 0.1, high=low + 0.2))
    try:
        strategy.ask(0)
    except UnmeetableConstraint as error:
        assert 'acceptance rate' in str(error), f'the error must tell the acceptance rate; it says: {error}'
    else:
        raise AssertionError('ask(0) must raise UnmeetableConstraint where no candidate meets the constraints.')
