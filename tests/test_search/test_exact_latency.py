"""Exact search within a measured latency, alone and with other budgets, against trying everything."""

import itertools
import json

import numpy as np
import pytest

from detnas_mm.search import Constraint, Objective, UnmeetableConstraint
from detnas_mm.systems.mae_det import (
    EntropyScore,
    ExactStrategy,
    MAEDetSpace,
    StructureFlops,
    StructureLatency,
    StructureLayers,
    StructureParams,
)
from detnas_mm.systems.mae_det.exact import BlockProgram, solve
from tests import latency
from tests.jobs import make_job

from . import structures
from .conftest import Search

#: Nine bottlenecks a block: some are points of the tables' grid, more lie between.
SPACE = MAEDetSpace(dict(structures.SMALL, bottleneck_step=2, depths=[[1, 2], [1, 1], [1, 2]]))
KNOTS = {8, 12, 16, 24}
SIZE = (64, 48)
SCORE = EntropyScore((0, 1, 2))
SUM = SCORE.block_sum((2, 2, 1, 2))
OFFSET = 0.3


def device(number):
    """Tables of a device on paper: what a piece takes is no sum, grows ever slower, and jumps where caches end."""
    found = latency.structures(SPACE, SIZE, points=2, constant_ms=OFFSET, references_ms=dict(resnet50=1.5))
    rng = np.random.default_rng(number)
    for place in found['tables_ms']:
        for name, table in place.items():
            work = np.array(table, dtype=float)
            bend, jump = rng.uniform(0.4, 1.6), rng.uniform(0.01, 0.03)
            place[name] = (0.01 + work**bend / 2 + jump * (work > np.median(work))).tolist()
    return found


def read(file, found, **how):
    file.write_text(json.dumps(found))
    return StructureLatency(SPACE, file, SIZE, **how)


@pytest.fixture(scope='module')
def everything():
    codes = structures.members(SPACE)
    assert len(codes) > 100_000
    return codes


@pytest.fixture(scope='module')
def costs(tmp_path_factory):
    measured = read(tmp_path_factory.mktemp('tables') / 'a.json', device(0))
    return dict(
        latency=measured,
        flops=StructureFlops(SPACE, SIZE),
        params=StructureParams(SPACE),
        layers=StructureLayers(SPACE),
    )


@pytest.fixture(scope='module')
def totals(everything, costs):
    """Score and costs of all members."""
    return SUM.totals(everything), {name: cost.totals(everything) for name, cost in costs.items()}


def test_a_latency_is_the_sum_of_its_pieces(everything, costs):
    """At points of the grid: every piece as often as it is there, and once what every structure pays."""
    found = device(0)
    grid = found['grid']
    assert set(grid['inner'][0]) == KNOTS
    on_grid = everything[
        np.all([np.isin(everything[:, 7 + 5 * b], grid['bottlenecks'][b]) for b in range(3)], axis=0)
        & np.all([np.isin(everything[:, 3 + 5 * b], grid['widths'][b + 1]) for b in range(3)], axis=0)
    ]
    assert len(on_grid) > 50
    for codes, total in zip(on_grid.tolist(), costs['latency'].totals(on_grid).tolist(), strict=True):
        widths, wanted = [codes[0], *codes[3::5]], OFFSET
        places = [grid['widths'][place].index(width) for place, width in enumerate(widths)]
        wanted += found['tables_ms'][0]['stem'][places[0]]
        for b in range(3):
            table = found['tables_ms'][b + 1]
            cin, out = places[b : b + 2]
            kernel, depth = grid['kernels'].index(codes[4 + 5 * b]), codes[6 + 5 * b]
            btn = grid['bottlenecks'][b].index(codes[7 + 5 * b])
            inner = grid['inner'][b].index(codes[7 + 5 * b])
            wanted += table['reduce_first'][cin][btn] + table['kernel_first'][kernel][inner]
            wanted += table['shortcut'][cin][out]
            wanted += (depth - 1) * (table['reduce'][out][btn] + table['kernel'][kernel][inner])
            wanted += depth * (table['expand'][btn][out] + table['sum'][out])
        assert total == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize('max_depth', [None, 4])
def test_the_program_finds_the_best_at_any_prices(everything, costs, totals, max_depth):
    """Also between the points of the grid, where a latency is a quadratic of its own in the bottleneck."""
    own = [costs['latency'], costs['params']]
    program = BlockProgram(SPACE, SUM, own, max_depth)
    scores, used = totals
    allowed = everything[:, 6::5].sum(axis=1) <= (max_depth or 99)
    rng = np.random.default_rng(0)
    seen = set()
    for prices in [(0.0, 0.0), (5.0, 0.0), *(10 ** rng.uniform([-1, -6], [2, -2], size=(40, 2)))]:
        value, genes = program.solve(prices)
        values = scores - prices[0] * used['latency'] - prices[1] * used['params']
        assert value == pytest.approx(values[allowed].max(), rel=1e-12)
        reached = SUM.totals(genes[None])[0] - sum(p * c.totals(genes[None])[0] for p, c in zip(prices, own))
        assert reached == pytest.approx(value, rel=1e-12) and SPACE.contains(genes[None])[0]
        assert genes[6::5].sum() <= (max_depth or 99)
        seen.update(genes[7::5].tolist())
    assert len(seen - KNOTS) > 1, 'some of the best lie between points of the grid'


SUBSETS = [
    ('latency', *more) for count in range(4) for more in itertools.combinations(('flops', 'params', 'layers'), count)
]


@pytest.mark.parametrize('names', SUBSETS, ids='+'.join)
def test_bound_and_best_against_trying_everything(everything, costs, totals, names):
    for quantile in (0.02, 0.3, 0.9):
        # In so small a space, and with jumps, a step is some per cent of the score.
        own = {name: (costs[name], totals[1][name]) for name in names}
        structures.assert_solved(SPACE, SUM, everything, own, quantile, above=0.08)


@pytest.mark.parametrize('number', range(1, 6))
def test_the_bound_holds_on_any_device(tmp_path, everything, number):
    """Tables of every shape, in multiples of a net that was measured with them."""
    cost = read(tmp_path / 'a.json', device(number), relative_to='resnet50')
    scores, used = SUM.totals(everything), cost.totals(everything)
    for limit in np.quantile(used, (0.05, 0.5)).tolist():
        best = scores[used <= limit].max()
        found = solve(SPACE, SUM, dict(latency=(cost, limit)), gap=0.0)
        assert best - 0.01 * abs(best) < found.value <= best + 1e-9 <= found.bound + 2e-9 < best + 0.08 * abs(best)
        assert cost.totals(found.genes[None])[0] <= limit


def test_flat_tables_take_nothing_from_the_proof(tmp_path, everything):
    """Latency that no bottleneck changes, up to rounding: only depth costs."""
    found = latency.structures(SPACE, SIZE, points=3)
    for place in found['tables_ms']:
        for name, table in place.items():
            place[name] = np.full(np.shape(table), 0.1).tolist()
    cost = read(tmp_path / 'a.json', found)
    scores, used = SUM.totals(everything), cost.totals(everything)
    limit = float(np.median(used)) + 1e-9
    proof = solve(SPACE, SUM, dict(latency=(cost, limit)), gap=0.0)
    assert proof.bound >= scores[used <= limit].max() - 1e-9
    assert proof.value == pytest.approx(scores[used <= limit].max(), rel=1e-12)


# -- the strategy -------------------------------------------------------------------------------------------------


def search(costs, constraints):
    strategy = ExactStrategy(dict(type='EntropyScore', weights=(0, 1, 2)))
    objectives = [Objective('entropy')]
    return Search(make_job(SPACE, objectives, costs, constraints, strategy=strategy, evaluator=SCORE, generations=1))


def test_the_strategy_takes_it(costs, totals):
    scores, used = totals
    limit = float(np.quantile(used['latency'], 0.3))
    job = search(costs, [Constraint('latency', high=limit), Constraint('layers', high=13)])
    (best,) = job.run()
    feasible = scores[(used['latency'] <= limit) & (used['layers'] <= 13)]
    proof = job.strategy.prove()
    assert set(proof['prices']) == {'latency'} and proof['budgets'] == dict(latency=limit, layers=13)
    assert proof['value'] == pytest.approx(best.metrics['entropy'], rel=1e-12)
    assert proof['value'] - 1e-9 <= feasible.max() <= proof['bound']
    assert best.costs['latency'] <= limit and best.costs['layers'] <= 13


def test_what_cannot_be_met_or_is_not_known(tmp_path, costs):
    low = costs['latency'].bounds()[0]
    with pytest.raises(
        UnmeetableConstraint, match=r'No architecture meets latency ≤ 0\.1 .*latency from .* \(ms an im'
    ):
        search(costs, [Constraint('latency', high=0.1)])
    with pytest.raises(UnmeetableConstraint, match=rf'meets latency ≤ 0\.1: the smallest has {low:.6g} '):
        solve(SPACE, SUM, dict(latency=(costs['latency'], 0.1)))
    with pytest.raises(
        ValueError, match="names the cost 'latency', which the search does not have.*add one to search.costs"
    ):
        search({}, [Constraint('latency', high=1)])
    with pytest.raises(ValueError, match='one upper limit per cost, .* got 0.5 ≤ latency ≤ 1'):
        search(costs, [Constraint('latency', low=0.5, high=1)])
    # Tables of a part of the space: what lies outside is no candidate of which nothing is known, but a mistake.
    narrow = MAEDetSpace(dict(SPACE.spec(), bottlenecks=[8, 16]))
    of_part = StructureLatency(narrow, latency.write_structures(tmp_path / 'a.json', narrow, SIZE, points=3), SIZE)
    with pytest.raises(ValueError, match='covers bottlenecks of 8 to 16 in block 1; this space has 8 to 24. Measure'):
        BlockProgram(SPACE, SUM, [of_part])
