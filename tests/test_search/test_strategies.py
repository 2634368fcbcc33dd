import time

import numpy as np
import pytest

from detnas_mm.search import Constraint, EvolutionStrategy, Objective, RandomStrategy, UnmeetableConstraint
from detnas_mm.systems.detnas import DetNASSpace, MacsTable
from tests.jobs import make_job

from .test_ledger import record

TINY = DetNASSpace(dict(stem=4, channels=(8, 16), blocks=(1, 2)))  # 64 architectures


def set_up(strategy, space=None, seed=0, **bounds):
    space = space or DetNASSpace('small')
    constraints = [Constraint('macs', **bounds)] if bounds else []
    costs = {'macs': MacsTable(space)}
    make_job(space, [Objective('acc')], costs, constraints, strategy=strategy, seed=seed).prepare()
    return strategy


def rows_of(strategy, proposals, generation=0):
    describe = strategy.space.describe
    return [
        record(
            i,
            p.arch.id,
            arch=describe(p.arch),
            generation=generation,
            metrics={'acc': float(p.arch.genes.count(2))},
        )
        for i, p in enumerate(proposals)
    ]


@pytest.mark.parametrize('make', [RandomStrategy, EvolutionStrategy])
def test_a_generation_depends_on_seed_and_records_alone(make):
    first, second, other = set_up(make()), set_up(make()), set_up(make(), seed=1)
    for generation in range(3):
        proposals = first.ask(generation)
        assert proposals == second.ask(generation)
        assert proposals != other.ask(generation)
        for strategy in (first, second, other):
            strategy.tell(rows_of(first, proposals, generation))


@pytest.mark.parametrize('make', [RandomStrategy, EvolutionStrategy])
def test_what_is_drawn_to_check_constraints_is_the_first_generation(make, monkeypatch):
    """Drawn once, before a model is loaded: asking twice would draw other nets."""
    drawn = []
    propose = make.propose

    def watched(strategy, generation, rng):
        drawn.append(generation)
        return propose(strategy, generation, rng)

    monkeypatch.setattr(make, 'propose', watched)
    strategy = set_up(make())
    assert drawn == [0]
    first = strategy.ask(0)
    assert drawn == [0] and len(first) == 50
    strategy.tell(rows_of(strategy, first))
    strategy.ask(1)
    assert drawn == [0, 1]


@pytest.mark.parametrize('make', [RandomStrategy, EvolutionStrategy])
def test_no_architecture_is_asked_for_twice_and_all_are_feasible(make):
    strategy = set_up(make(), high=290e6)
    table, seen = MacsTable('small'), set()
    for generation in range(5):
        proposals = strategy.ask(generation)
        assert len(proposals) == 50
        assert all(table.total(p.arch) <= 290e6 for p in proposals)
        ids = {p.arch.id for p in proposals}
        assert len(ids) == 50 and not ids & seen
        seen |= ids
        strategy.tell(rows_of(strategy, proposals, generation))


def test_children_are_half_mutations_half_crossovers_of_the_all_time_best():
    strategy = set_up(EvolutionStrategy())
    rows = []
    for generation in range(4):
        proposals = strategy.ask(generation)
        if generation:
            best = {r.id for r in Objective('acc').best_first(rows)[:10]}
            assert {parent for p in proposals for parent in p.parents} <= best
            kinds = [p.origin for p in proposals]
            assert [kinds.count(kind) for kind in ('mutation', 'crossover', 'random')] == [25, 25, 0]
        rows += rows_of(strategy, proposals, generation)
        strategy.tell(rows[-50:])
    # The parents are of all time: the first generation's best is still one unless ten beat it.
    assert best == {r.id for r in Objective('acc').best_first(rows[:150])[:10]}


def test_the_newcomers_of_the_authors_code():
    strategy = set_up(EvolutionStrategy(mutation=20, crossover=20, random=10))
    strategy.tell(rows_of(strategy, strategy.ask(0)))
    kinds = [p.origin for p in strategy.ask(1)]
    assert [kinds.count(kind) for kind in ('mutation', 'crossover', 'random')] == [20, 20, 10]


def test_mutation_redraws_each_gene_with_the_probability_given():
    space, rng = DetNASSpace('small'), np.random.default_rng(0)
    parent = space.sample(rng)
    changed = sum(a != b for _ in range(2000) for a, b in zip(parent.genes, space.mutate(parent, rng, 0.1).genes)) / (
        2000 * 20
    )
    assert changed == pytest.approx(0.1 * 3 / 4, abs=0.005)  # a redraw keeps the gene one time in four


def test_a_child_of_a_crossover_has_its_parents_genes():
    space, rng = DetNASSpace('small'), np.random.default_rng(0)
    first, second = space.parse('0' * 20), space.parse('1' * 20)
    genes = np.array([space.crossover(first, second, rng).genes for _ in range(500)])
    assert set(genes.ravel()) == {0, 1}
    assert genes.mean() == pytest.approx(0.5, abs=0.02)


def test_a_space_that_is_used_up_gives_what_is_left_and_then_nothing():
    strategy = set_up(EvolutionStrategy(population=40, max_attempts=5000), TINY)
    sizes = []
    for generation in range(4):
        proposals = strategy.ask(generation)
        sizes.append(len(proposals))
        strategy.tell(rows_of(strategy, proposals, generation))
    assert sizes == [40, 24, 0, 0]


@pytest.mark.parametrize('make', [RandomStrategy, EvolutionStrategy])
def test_constraints_that_nothing_drawn_meets_fail_within_a_second(make):
    start = time.perf_counter()
    with pytest.raises(UnmeetableConstraint, match='acceptance rate 0.*237,222,720 to 365,472,576'):
        set_up(make(), low=237.3e6, high=237.4e6)  # inside the space's range, but next to nothing is there
    assert time.perf_counter() - start < 3  # the promise is one second; machines that run tests are busy


def test_failed_candidates_never_become_parents():
    strategy = set_up(EvolutionStrategy(population=10))
    proposals = strategy.ask(0)
    rows = rows_of(strategy, proposals)
    rows[0] = record(0, proposals[0].arch.id, arch=rows[0].arch, status='failed', metrics={})
    strategy.tell(rows)
    assert proposals[0].arch.id not in {parent for p in strategy.ask(1) for parent in p.parents}


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(population=0), 'population'),
        (dict(population=50, mutation=30, crossover=30), 'must equal the population'),
        (dict(mutation_prob=0), 'mutation_prob'),
        (dict(population=10, random=11), 'at least 0'),
        (dict(max_attempts=0), 'max_attempts'),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        EvolutionStrategy(**options)


def test_two_objectives_are_refused():
    with pytest.raises(ValueError, match='one objective'):
        EvolutionStrategy().setup(make_job(TINY, [Objective('a'), Objective('b')]))
