import numpy as np
import pytest

from detnas_mm.cost import AdditiveTable
from detnas_mm.search import (
    Constraint,
    Objective,
    ParetoStrategy,
    UnmeetableConstraint,
    pareto_front,
    thinned,
)
from detnas_mm.search.pareto import crowding_distances, front_ranks
from detnas_mm.testing import check_strategy

from .conftest import CountingEvaluator
from .test_ledger import record

MAP, MACS = Objective('acc'), Objective('macs', 'minimize')


def naive_ranks(gains):
    """By the definition: take the front away, again and again."""
    ranks, left, rank = np.full(len(gains), -1), list(range(len(gains))), 0
    while left:
        front = [
            i for i in left
            if not any((gains[j] >= gains[i]).all() and (gains[j] > gains[i]).any() for j in left)
        ]  # fmt: skip
        ranks[front] = rank
        left = [i for i in left if i not in front]
        rank += 1
    return ranks


@pytest.mark.parametrize('objectives', [1, 2, 3])
def test_ranks_are_those_of_the_definition_ties_included(objectives):
    rng = np.random.default_rng(objectives)
    for size in (0, 1, 2, 60):
        gains = rng.integers(0, 8, (size, objectives)).astype(float)
        assert front_ranks(gains).tolist() == naive_ranks(gains).tolist()


def test_crowding_by_hand():
    distances = crowding_distances(np.array([[0.0, 4.0], [1.0, 3.0], [3.0, 1.0], [4.0, 0.0]]))
    assert distances.tolist() == [np.inf, 1.5, 1.5, np.inf]
    assert crowding_distances(np.array([[1.0, 1.0]])).tolist() == [np.inf]
    assert crowding_distances(np.zeros((3, 2))).tolist()[1] == 0


def test_the_front_of_records_leaves_out_who_is_beaten_and_who_failed():
    rows = [
        record(0, 'a', metrics={'acc': 1.0}, costs={'macs': 5}),
        record(1, 'b', metrics={'acc': 2.0}, costs={'macs': 9}),
        record(2, 'c', metrics={'acc': 1.0}, costs={'macs': 6}),
        record(3, 'd', metrics={}, costs={'macs': 1}, status='failed'),
        record(4, 'e', metrics={'acc': 0.5}, costs={'macs': 2}),
    ]
    assert [r.id for r in pareto_front(rows, [MAP, MACS])] == ['b', 'a', 'e']
    assert [r.id for r in pareto_front(rows, [MAP])] == ['b']
    assert pareto_front(rows[3:4], [MAP, MACS]) == []


def test_the_strategy_keeps_the_contract():
    def make():
        return ParetoStrategy(population=20, parents=5, max_attempts=1000)

    check_strategy(make, [Objective('score'), Objective('other', 'minimize')])


def test_one_objective_is_refused(make_search):
    with pytest.raises(ValueError, match='two objectives or more.*EvolutionStrategy'):
        make_search(strategy=ParetoStrategy())


def test_a_search_spreads_along_the_front(make_search):
    """Against a search for the metric alone, the cheap end of the front is better known."""
    lines = []
    strategy = ParetoStrategy(population=20, parents=10)
    search = make_search(strategy=strategy, generations=8, high=None, objective=[MAP, MACS], log=lines.append)
    search.run()
    front = pareto_front(search.ledger.records, [MAP, MACS])
    alone = make_search(generations=16, high=None, folder='b')
    alone.run()
    assert min(r.costs['macs'] for r in front) < min(r.costs['macs'] for r in alone.ledger.records)
    assert f'{len(front)} nets on the front' in lines[-1] and len(front) > 5
    accuracies = [r.metrics['acc'] for r in front]
    assert accuracies == sorted(accuracies, reverse=True)


def test_parents_with_room_around_them_come_first(make_search):
    """Four on the front and two wanted: the ends of the front."""
    search = make_search(CountingEvaluator(), ParetoStrategy(population=4, parents=2), objective=[MAP, MACS])
    search.strategy.records = [
        record(i, str(i), metrics={'acc': float(a)}, costs={'macs': a * a}) for i, a in enumerate([1, 5, 2, 3])
    ]
    assert {r.id for r in search.strategy.choose_parents()} == {'0', '1'}


@pytest.mark.parametrize(
    ('count', 'ids'), [(None, '01234'), (9, '01234'), (5, '01234'), (4, '0134'), (3, '034'), (2, '04')]
)
def test_a_front_is_thinned_where_it_is_crowded(count, ids):
    """The ends stay; whoever has the least room between its neighbours goes, one after another."""
    places = [0.0, 4.0, 5.0, 5.5, 10.0]
    front = [record(i, str(i), metrics={'acc': -x}, costs={'macs': -x}) for i, x in enumerate(places)]
    assert ''.join(row.id for row in thinned(front, [MAP, MACS], count)) == ids


LATENCY = Objective('latency', 'minimize')


def latency_costs():
    """Milliseconds by a table that disagrees with MACs."""
    table = np.random.default_rng(7).uniform(0.05, 0.2, (20, 4))
    return dict(latency=AdditiveTable('latency', 'ms, on paper', table, 0.4))


@pytest.mark.parametrize('objectives', [[MAP, LATENCY], [MAP, LATENCY, MACS]])
def test_fronts_of_latency_under_constraints(make_search, objectives):
    bounds = [
        Constraint('latency', low=2.2, high=2.8), Constraint('macs', high=310e6), Constraint('params', low=1.4e6)
    ]  # fmt: skip
    strategy = ParetoStrategy(population=20, parents=10)
    search = make_search(
        strategy=strategy, generations=6, objective=objectives, high=None, costs=latency_costs(), constraints=bounds
    )
    search.run()
    records = search.ledger.records
    assert len(records) == 120
    for constraint in bounds:
        values = [record.costs[constraint.cost] for record in records]
        assert constraint.low <= min(values) and max(values) <= constraint.high
    front = pareto_front(records, objectives)
    gains = np.array([[objective.gain(record) for objective in objectives] for record in records])
    assert {r.id for r in front} == {records[i].id for i in np.flatnonzero(naive_ranks(gains) == 0)}
    assert len(front) >= 4 and {record.id for record in strategy.choose_parents()} & {record.id for record in front}


def test_constraints_that_nothing_meets_together_are_refused_before_the_search(make_search):
    """Each of the two alone can be met."""
    low, high = Constraint('macs', high=238e6), Constraint('params', low=2.1e6)
    with pytest.raises(
        UnmeetableConstraint, match=r'macs ≤ 238,000,000 and 2,100,000 ≤ params.*latency from 1.94409 to'
    ):
        make_search(
            strategy=ParetoStrategy(population=4, max_attempts=500), objective=[MAP, LATENCY], high=None,
            costs=latency_costs(), constraints=[low, high],
        )  # fmt: skip


def test_a_latency_constraint_that_excludes_nothing_is_logged(make_search):
    lines = []
    make_search(
        strategy=ParetoStrategy(population=4, parents=2), objective=[MAP, LATENCY], high=None, generations=1,
        log=lines.append, costs=latency_costs(), constraints=[Constraint('latency', high=12.5)],
    ).run()  # fmt: skip
    assert lines[0].startswith('The constraint latency ≤ 12.5 excludes nothing. This space has macs from 237,222,720')
    assert '(ms, on paper)' in lines[0]
    assert 'latency 2.' in lines[-1] or 'latency 1.' in lines[-1] or 'latency 3.' in lines[-1]
