"""Evolution within a window of costs: children are moved inside by further mutations."""

import numpy as np
import pytest

from detnas_mm.search import Budget, Constraint, PopulationEvolution
from detnas_mm.search.strategies import population as module
from detnas_mm.search.strategies.window import moved_inside
from detnas_mm.testing import ToyCost, ToySpace
from detnas_mm.testing.strategies import check_runs, toy_job

from .test_population import COSTS, plain, search

SPACE = ToySpace(12, 4)
#: The best of 188e8 FLOPs and 91 layers, as exact search proves; it has 18,796,194,000.
OPTIMUM = 2096.85


def structures(low, **settings):
    constraints = [Constraint('flops', low, 188e8), Constraint('layers', high=91)]
    return search(strategy=PopulationEvolution(**settings), constraints=constraints)


def test_candidates_outside_are_moved_inside_and_others_stay():
    budget = Budget(SPACE, dict(toy=ToyCost(SPACE)), [Constraint('toy', 14, 15)])
    rng = np.random.default_rng(0)
    codes = SPACE.sample_codes(rng, 500)
    before = codes.copy()
    moved = moved_inside(codes, budget.excess_of_codes, lambda rows: SPACE.mutate_codes(rows, rng, 0.1))
    inside = budget.allows_codes(codes)
    assert 0 < inside.sum() < 150 and budget.allows_codes(moved).all()
    assert (codes == before).all() and (moved[inside] == codes[inside]).all()
    kept = (moved == codes)[~inside].mean()
    assert kept > 0.6, f'moving them changes few digits: {kept}'


def test_what_cannot_be_moved_inside_comes_as_near_as_it_gets():
    budget = Budget(SPACE, dict(toy=ToyCost(SPACE)), [Constraint('toy', 14.25, 14.75)])
    rng = np.random.default_rng(0)
    codes = SPACE.sample_codes(rng, 100)
    moved = moved_inside(codes, budget.excess_of_codes, lambda rows: SPACE.mutate_codes(rows, rng, 0.1))
    assert budget.excess_of_codes(moved) == pytest.approx(np.full(100, 0.25 / 14.5), rel=0.05)


def test_excess_is_relative_to_the_bounds_that_are_broken_and_adds_up():
    costs = dict(toy=ToyCost(SPACE), other=ToyCost(SPACE))
    codes = np.array([[0] * 12, [1] * 12, [2] * 12])  # costs 1, 13 and 25
    budget = Budget(SPACE, costs, [Constraint('toy', 10, 20), Constraint('other', low=13)])
    assert budget.excess_of_codes(codes).tolist() == [9 / 10 + 12 / 13, 0, 5 / 20]
    assert (budget.excess_of_codes(codes) == 0).tolist() == budget.allows_codes(codes).tolist()


def test_a_window_of_half_a_percent_comes_within_a_percent_of_the_optimum():
    """Without moving children inside: 1917 after 100,000 candidates."""
    best = structures(187e8, candidates=4000).run()
    assert best[0].metrics['entropy'] > 0.99 * OPTIMUM
    assert all(187e8 <= row.costs['flops'] <= 188e8 and row.costs['layers'] <= 91 for row in best)


@pytest.mark.slow
def test_a_window_of_a_two_thousandth_does_so_too():
    """Without moving children inside: 1684."""
    constraints = [Constraint('flops', 187.9e8, 188e8), Constraint('layers', high=91)]
    best = search(strategy=PopulationEvolution(), generations=10, constraints=constraints).run()
    assert best[0].metrics['entropy'] > 0.99 * OPTIMUM


def test_it_begins_where_no_draw_meets_the_window():
    constraint = Constraint('toy', 34, 36)
    strategy = PopulationEvolution(16, 200, 50, mutation_prob=0.1, max_attempts=1024)
    job = toy_job(strategy, constraint=constraint, space=SPACE)
    codes = strategy.advance(0, None, job.evaluator.score_codes).codes
    assert len(codes) == 16 and job.budget.allows_codes(codes).all()
    assert not job.budget.allows_codes(SPACE.sample_codes(np.random.default_rng([0, 0]), 1024)).any()


def test_a_search_in_a_window_is_resumed_as_if_never_stopped():
    check_runs(
        lambda **changes: toy_job(
            PopulationEvolution(16, 200, 50, mutation_prob=0.2), constraint=Constraint('toy', 17, 17), space=SPACE,
            **changes,
        )
    )  # fmt: skip


@pytest.mark.parametrize('low', [0, COSTS['flops'].bounds()[0]])
def test_nothing_is_moved_where_no_lower_bound_excludes_anything(low, monkeypatch):
    def refuse(*args):
        raise AssertionError('moved')

    monkeypatch.setattr(module, 'moved_inside', refuse)
    found = structures(low, population=64, candidates=1000, batch=128)
    found.run()
    without = search()
    without.run()
    assert plain(found.ledger.snapshots) == plain(without.ledger.snapshots)
