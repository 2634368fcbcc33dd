"""Exact search against trying everything, and the bound against whatever else is found."""

import itertools
import json

import numpy as np
import pytest

from detnas_mm.search import Constraint, Objective, UnmeetableConstraint
from detnas_mm.systems.detnas import DetNASSpace
from detnas_mm.systems.mae_det import (
    DeepMADScore,
    EntropyScore,
    ExactStrategy,
    MAEDetSpace,
    StructureFlops,
    StructureLayers,
    StructureMacs,
    StructureParams,
)
from detnas_mm.systems.mae_det.blocks import BlockSum
from detnas_mm.systems.mae_det.exact import BlockProgram, solve
from detnas_mm.testing import ToyEvaluator
from tests.jobs import make_job

from . import structures
from .conftest import Search

SMALL = MAEDetSpace(structures.SMALL)
WEIGHTS = (0, 1, 2)
SCORE = EntropyScore(WEIGHTS)
SUM = SCORE.block_sum((2, 2, 1, 2))
COSTS = dict(
    flops=StructureFlops(SMALL, 64), macs=StructureMacs(SMALL, (64, 48)), params=StructureParams(SMALL),
    layers=StructureLayers(SMALL),
)  # fmt: skip


@pytest.fixture(scope='module')
def everything():
    codes = structures.members(SMALL)
    assert len(codes) > 30_000
    return codes


@pytest.mark.parametrize('max_depth', [None, 4, 5, 6])
def test_the_program_finds_the_best_at_any_prices(everything, max_depth):
    costs = [COSTS['flops'], COSTS['params']]
    program = BlockProgram(SMALL, SUM, costs, max_depth)
    scores, used = SUM.totals(everything), [cost.totals(everything) for cost in costs]
    allowed = everything[:, 6::5].sum(axis=1) <= (max_depth or 99)
    rng = np.random.default_rng(0)
    for prices in [(0.0, 0.0), (1e-6, 0.0), (0.0, 1e-3), *(10 ** rng.uniform([-8, -6], [-5, -2], size=(30, 2)))]:
        value, genes = program.solve(prices)
        values = scores - prices[0] * used[0] - prices[1] * used[1]
        assert value == pytest.approx(values[allowed].max(), rel=1e-12)
        own = float(SUM.totals(genes[None])[0] - sum(p * c.totals(genes[None])[0] for p, c in zip(prices, costs)))
        assert own == pytest.approx(value, rel=1e-12) and SMALL.contains(genes[None])[0]
        assert genes[6::5].sum() <= (max_depth or 99)


SUBSETS = [names for count in range(5) for names in itertools.combinations(COSTS, count)]


@pytest.mark.parametrize('names', SUBSETS, ids='+'.join)
def test_bound_and_best_against_trying_everything(everything, names):
    """Any subset of budgets, tight and loose: the bound holds, and the best found is the best or close below it."""
    for quantile in (0.02, 0.3, 0.9):
        # On so coarse a grid a step is a per cent of the score.
        costs = {name: (COSTS[name], COSTS[name].totals(everything)) for name in names}
        found, best = structures.assert_solved(SMALL, SUM, everything, costs, quantile, above=0.05)
        if set(names) <= {'layers'}:
            assert found.value == pytest.approx(best, rel=1e-12) and found.gap < 1e-9


def test_the_budget_of_resnet50():
    """The authors' space and budget; the aim is a gap of 0.01 % with FLOPs and layers, 0.05 % with parameters too."""
    space = MAEDetSpace('authors')
    score = EntropyScore().block_sum((2, *space.strides))
    budgets = dict(flops=(StructureFlops(space), 188e8), layers=(StructureLayers(space), 91))
    found = solve(space, score, budgets)
    assert found.value == pytest.approx(2096.85, abs=0.005) and found.bound == pytest.approx(2096.91, abs=0.005)
    assert found.gap <= 1e-4
    tighter = solve(space, score, budgets | dict(params=(StructureParams(space), 23.5e6)))
    assert tighter.gap <= 5e-4 and tighter.bound < found.bound
    (arch,) = space.decode(tighter.genes[None])
    assert EntropyScore().score(arch) == pytest.approx(tighter.value, rel=1e-12)
    assert StructureParams().total(arch) <= 23.5e6 and StructureFlops().total(arch) <= 188e8


@pytest.mark.parametrize('names', [['flops'], ['params'], ['flops', 'macs', 'params', 'layers']], ids='+'.join)
@pytest.mark.parametrize('above', [0, 1e-6])
def test_budgets_that_hardly_anything_but_the_smallest_meets(names, above):
    """Prices then have no limit, or one far beyond what a linear program holds: the bound is found all the same."""
    space = MAEDetSpace('authors')
    costs = dict(
        flops=StructureFlops(space), macs=StructureMacs(space), params=StructureParams(space),
        layers=StructureLayers(space),
    )  # fmt: skip
    budgets = {name: (costs[name], costs[name].bounds()[0] * (1 + above)) for name in names}
    found = solve(space, EntropyScore().block_sum((2, *space.strides)), budgets)
    (arch,) = space.decode(found.genes[None])
    assert arch == space.smallest() and found.value <= found.bound and found.gap < 1e-4


# -- the strategy -------------------------------------------------------------------------------------------------


LIMIT = Constraint('flops', high=6e6)


def strategy_search(constraints=(LIMIT,), evaluator=SCORE, objective=None, **more):
    strategy = ExactStrategy(**(dict(score=dict(type='EntropyScore', weights=WEIGHTS)) | more))
    lines = []
    job = make_job(
        SMALL, [objective or Objective('entropy')], COSTS, constraints, strategy=strategy, evaluator=evaluator,
        generations=2, log=lines.append,
    )  # fmt: skip
    return Search(job), lines


def test_the_strategy_asks_for_one_and_proves_it():
    job, lines = strategy_search()
    (best,) = job.run()
    proof = job.strategy.prove()
    assert job.strategy.artifacts() == {'certificate.json': proof} == json.loads(json.dumps(job.strategy.artifacts()))
    assert best.origin == 'exact' and best.metrics['entropy'] == pytest.approx(proof['value'], rel=1e-12)
    assert best.costs['flops'] <= 6e6 and proof['bound'] >= proof['value'] and set(proof['prices']) == {'flops'}
    programs = [line.partition(': ')[2] for line in lines if line.startswith('program ')]
    assert lines[0].startswith('program 1: bound ') and len(set(programs)) == len(programs) <= proof['iterations']
    line = next(line for line in lines if 'generation 1/2' in line)
    assert f'exceeds {proof["bound"]:.4f} (gap ' in line
    again, _ = strategy_search()
    assert again.run()[0].id == best.id


class Odd(StructureMacs):
    def rest(self, place, cout, kernel, bottleneck):
        return super().rest(place, cout, kernel, bottleneck) + np.sqrt(bottleneck)


PADDED = EntropyScore(WEIGHTS, input_size=64)


@pytest.mark.parametrize(
    ('kwargs', 'match'),
    [
        (dict(score=dict(type='DeepMADScore')), 'DeepMADScore is no sum over blocks'),
        (dict(score=PADDED, evaluator=PADDED), 'EntropyScore with input_size=.* is no sum over blocks'),
        (dict(score=EntropyScore(), evaluator=EntropyScore()), 'weights .* has 5 entries'),
        (dict(gap=-1), 'gap must be in'),
        (dict(max_iterations=0), 'max_iterations an integer of at least 1'),
        (dict(objective=Objective('entropy', 'minimize')), "to maximize 'entropy'; got"),
        (dict(constraints=[Constraint('flops', low=1, high=1e7)]), 'one upper limit per cost'),
        (dict(constraints=[Constraint('flops', high=1e7)] * 2), 'one upper limit per cost'),
    ],
)
def test_what_it_cannot_serve_is_refused_before_the_search(kwargs, match):
    with pytest.raises(ValueError, match=match):
        strategy_search(**kwargs)


class Dearer(EntropyScore):
    """Says that it is the score of the proof, and gives another."""

    def score_codes(self, codes):
        return super().score_codes(codes) * (1 + 1e-6)


def test_what_is_proven_must_be_what_is_evaluated():
    with pytest.raises(
        ValueError, match=r'in search.strategy has score .*2.0.* and search.evaluator is .*1.0.*Give both the same'
    ):
        strategy_search(evaluator=EntropyScore((1, 1, 1)))
    with pytest.raises(ValueError, match='search.evaluator is ToyEvaluator: .* Give both the same'):
        strategy_search(evaluator=ToyEvaluator())
    job, _ = strategy_search(evaluator=Dearer(WEIGHTS))
    with pytest.raises(
        ValueError, match='search.evaluator gives .*, search.strategy.score .*: give both the same settings'
    ):
        job.run()


def test_other_refusals():
    job = make_job(DetNASSpace('small'), [Objective('entropy')], evaluator=SCORE)
    with pytest.raises(ValueError, match='needs a MAEDetSpace; got DetNASSpace'):
        ExactStrategy(SCORE).setup(job)
    with pytest.raises(ValueError, match='costs must be quadratic in the bottleneck; Odd in stage 2 is not'):
        solve(SMALL, SUM, dict(macs=(Odd(SMALL), 1e9)))
    with pytest.raises(UnmeetableConstraint, match='No structure of this space meets flops ≤ 10: the smallest has'):
        solve(SMALL, SUM, dict(flops=(COSTS['flops'], 10)))
    fine = MAEDetSpace(dict(width_step=1, widths=[8, 60_000], bottleneck_step=1))
    with pytest.raises(ValueError, match='Block [234] .* Raise width_step'):
        solve(fine, EntropyScore().block_sum((2, *fine.strides)), {})
    with pytest.raises(ValueError, match='gap must be in'):
        solve(SMALL, SUM, {}, gap=2)
    assert isinstance(SUM, BlockSum) and not hasattr(DeepMADScore(), 'block_sum')
