"""Limits on costs for which nets are built or measured: how many are tried for a generation, and what is logged."""

import numpy as np
import pytest

from detnas_mm.search import Constraint, EvolutionStrategy, RandomStrategy, UnmeetableConstraint
from detnas_mm.search.strategies.ask_tell import TRIED
from detnas_mm.systems.detnas import DetNASSpace, MacsTable

from .conftest import CountingEvaluator

POPULATION = 4
SPACE = DetNASSpace('small')
MACS = np.sort(MacsTable(SPACE).totals(SPACE.encode(SPACE.sample_many(np.random.default_rng(0), 4000))))


class Measured(MacsTable):
    """One that is measured: its range is not known beforehand, and it notes what it was asked."""

    name = 'slow'
    dear = True

    def __init__(self, fail=False):
        super().__init__(SPACE)
        self.asked, self.fail = [], fail

    def bounds(self):
        return 0.0, float('inf')

    def failure(self, arch):
        return 'no kernel' if self.fail else None

    def totals(self, ids):
        self.asked += [tuple(row) for row in np.asarray(ids).tolist()]
        return np.full(len(ids), np.nan) if self.fail else super().totals(ids)


def within(share, **others):
    """Constraints that this share of the space meets."""
    return [Constraint('slow', high=float(MACS[int(share * len(MACS))])), *others.values()]


def distinct(cost):
    return len(set(cost.asked))


@pytest.mark.parametrize('make', [RandomStrategy, EvolutionStrategy])
def test_a_limit_that_nothing_meets_ends_after_a_few_measurements(make_search, make):
    cost = Measured()
    search = make_search(
        strategy=make(POPULATION), costs=dict(slow=cost), high=None, constraints=[Constraint('slow', high=1.0)]
    )
    with pytest.raises(UnmeetableConstraint, match='None of 40 candidates drawn meets slow ≤ 1 .*raise strategy.popul'):
        search.run()
    assert distinct(cost) == TRIED * POPULATION


def test_nets_that_cannot_be_measured_are_named(make_search):
    search = make_search(
        strategy=RandomStrategy(POPULATION), costs=dict(slow=Measured(fail=True)), high=None, constraints=within(0.5)
    )
    with pytest.raises(UnmeetableConstraint, match='40 of them failed: slow: no kernel. This .* slow in a range'):
        search.run()


@pytest.mark.parametrize('make', [RandomStrategy, EvolutionStrategy])
def test_generations_are_smaller_where_few_are_within_a_limit(make_search, make):
    def search(folder, stop_after=None):
        cost, lines = Measured(), []
        made = make_search(
            CountingEvaluator(stop_after=stop_after), make(POPULATION), costs=dict(slow=cost), high=None, folder=folder,
            constraints=within(0.07), log=lines.append,
        )  # fmt: skip
        return made, cost, lines

    whole, cost, lines = search('a')
    whole.run()
    said = [line for line in lines if 'the most for a generation (10 times its candidates)' in line]
    sizes = np.bincount([row.generation for row in whole.ledger.records])
    assert said and all(': 40 nets were tried for slow ≤ ' in line for line in said)
    assert said[0].startswith(f'Generation {np.flatnonzero(sizes < POPULATION)[0] + 1} has ')
    assert distinct(cost) <= TRIED * POPULATION * len(sizes)
    assert all(row.costs['slow'] <= MACS[280] for row in whole.ledger.records)
    cut, _, _ = search('b', stop_after=len(whole.ledger.records) - 1)
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    cut.ledger.close()
    again, _, _ = search('b')
    again.run()
    assert again.rows() == whole.rows()


def test_what_breaks_another_limit_is_not_measured_and_not_counted(make_search):
    cost = Measured()
    macs = float(MACS[200])  # 5 % of the space
    search = make_search(strategy=RandomStrategy(POPULATION), costs=dict(slow=cost), high=macs, constraints=within(0.9))
    search.run()
    assert len(search.ledger.records) == 4 * POPULATION
    rows = SPACE.encode([SPACE.parse(row.arch) for row in search.ledger.records])
    assert set(cost.asked) == set(map(tuple, rows.tolist()))
