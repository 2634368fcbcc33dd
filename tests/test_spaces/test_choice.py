"""Choice spaces: one choice per position, with any number of ids."""

import itertools

import numpy as np
import pytest

from detnas_mm.cost import AdditiveTable
from detnas_mm.errors import DetNASError
from detnas_mm.search import Budget, Constraint, EvolutionStrategy, Ledger, Objective, SearchJob
from detnas_mm.spaces import Architecture, ChoiceSpace
from detnas_mm.systems.detnas import DetNASSpace
from detnas_mm.testing import ToyEvaluator, check_cost_model, check_search_space


class Switches(ChoiceSpace):
    """A minimal choice space; a position with one choice is a constant."""

    def __init__(self, *choices):
        self._choices = choices

    @property
    def choices(self):
        return self._choices

    def spec(self):
        return dict(type='Switches', choices=list(self._choices))

    def describe(self, arch):
        return '-'.join(map(str, arch.genes))

    def parse(self, value):
        genes = value.split('-') if isinstance(value, str) else getattr(value, 'genes', value)
        try:
            ids = tuple(map(int, genes))
        except (TypeError, ValueError) as error:
            raise DetNASError(f'{value!r} is no row of ids') from error
        if len(ids) != len(self._choices) or not all(0 <= i < n for i, n in zip(ids, self._choices, strict=True)):
            raise DetNASError(f'{value!r} does not fit {self._choices}')
        return Architecture(ids)


UNEQUAL = Switches(2, 5, 3, 1, 7)


@pytest.mark.parametrize(
    'space', [UNEQUAL, Switches(2), Switches(4, 4, 4), Switches(1, 2), Switches(1)], ids=lambda s: str(s.choices)
)
@pytest.mark.parametrize('seed', [0, 1])
def test_it_keeps_the_contract(space, seed):
    check_search_space(space, seed)


def test_size():
    assert UNEQUAL.size == 210 and Switches(4, 4, 4).size == 64 and type(UNEQUAL.size) is int
    assert Switches(*[4] * 40).size == 4**40, 'beyond 64 bits'


def test_draws_are_uniform_at_every_position_and_reach_every_member():
    ids = UNEQUAL.sample_ids(np.random.default_rng(0), 21_000)
    for column, choices in zip(ids.T, UNEQUAL.choices, strict=True):
        counts = np.bincount(column, minlength=choices)
        assert len(counts) == choices
        assert abs(counts - len(ids) / choices).max() < 5 * np.sqrt(len(ids) / choices)
    assert len(np.unique(ids, axis=0)) == UNEQUAL.size
    correlations = np.corrcoef(ids[:, [0, 1, 2, 4]].T)
    assert abs(correlations - np.eye(4)).max() < 0.05, 'positions are independent'


def test_one_draw_and_many_are_members():
    rng = np.random.default_rng(0)
    archs = [UNEQUAL.sample(rng), *UNEQUAL.sample_many(rng, 50)]
    for arch in archs:
        UNEQUAL.validate(arch)
        assert all(type(gene) is int for gene in arch.genes)
    assert UNEQUAL.sample_many(rng, 0) == []


def test_draws_of_equal_choices_are_those_of_searches_begun_before():
    """One bound for all positions: bounds of their own would consume the generator otherwise."""
    space = DetNASSpace('small')
    expected = np.random.default_rng(7).integers(4, size=(5, 20)).tolist()
    assert [list(arch.genes) for arch in space.sample_many(np.random.default_rng(7), 5)] == expected
    assert space.sample(np.random.default_rng(7)).genes == tuple(expected[0])


def test_mutation_redraws_each_position_over_its_own_ids():
    parent, rng = UNEQUAL.parse('1-4-2-0-6'), np.random.default_rng(0)
    mutants = np.array([UNEQUAL.mutate(parent, rng, 0.3).genes for _ in range(6000)])
    changed = (mutants != parent.genes).mean(axis=0)
    expected = [0.3 * (n - 1) / n for n in UNEQUAL.choices]  # a redraw may give the old id
    assert changed.tolist() == pytest.approx(expected, abs=0.025)
    assert (mutants.max(axis=0) == np.array(UNEQUAL.choices) - 1).all() and (mutants.min(axis=0) == 0).all()
    assert UNEQUAL.mutate(parent, rng, 0.0) == parent


def test_crossover_takes_every_position_from_either_parent():
    first, second, rng = UNEQUAL.parse('0-0-0-0-0'), UNEQUAL.parse('1-4-2-0-6'), np.random.default_rng(0)
    children = np.array([UNEQUAL.crossover(first, second, rng).genes for _ in range(2000)])
    assert all(set(column) == {0, last} for column, last in zip(children.T.tolist(), second.genes, strict=True))
    shares = (children == second.genes).mean(axis=0)
    assert shares.tolist() == pytest.approx([0.5, 0.5, 0.5, 1.0, 0.5], abs=0.05)


def table_of(space, padding):
    """A row a position, a column an id; what no architecture can choose is filled up."""
    rows = [np.arange(1.0, n + 1) * (place + 1) for place, n in enumerate(space.choices)]
    widest = max(space.choices)
    table = np.array([np.pad(row, (0, widest - len(row)), mode=padding) for row in rows])
    cost = AdditiveTable('toy', 'sum of ids', table, 0.5)
    cost.space = space
    return cost


def test_a_table_has_a_column_for_the_position_with_most_ids():
    cost = table_of(UNEQUAL, 'edge')
    check_cost_model(cost, UNEQUAL)
    assert cost.bounds() == (0.5 + 15, 0.5 + 1 * 2 + 2 * 5 + 3 * 3 + 4 * 1 + 5 * 7)
    assert cost.total('1-4-2-0-6') == cost.bounds()[1]


def test_a_search_uses_such_a_space_up():
    cost = table_of(UNEQUAL, 'edge')
    job = SearchJob(
        space=UNEQUAL, objectives=[Objective('score')], strategy=EvolutionStrategy(40, 10, max_attempts=5000),
        budget=Budget(UNEQUAL, dict(toy=cost), [Constraint('toy', high=40.0)]), evaluator=ToyEvaluator(),
        generations=9, log=lambda text: None, show_progress=False,
    )  # fmt: skip
    job.prepare()
    job.evaluator.setup(job)
    rows = job.strategy.run(job.evaluator, Ledger(None, job.header()))
    members = itertools.product(*map(range, UNEQUAL.choices))
    feasible = {UNEQUAL.describe(Architecture(ids)) for ids in members if cost.total(ids) <= 40}
    assert {row.arch for row in rows} == feasible and len(rows) == len(feasible) > 100
