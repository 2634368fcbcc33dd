import numpy as np
import pytest

from detnas_mm.cost import AdditiveTable
from detnas_mm.search import Budget, Constraint, Objective, UnmeetableConstraint, cost_text, counted, number_text
from detnas_mm.systems.detnas import DetNASSpace, MacsTable, ParamsTable, PeakMemoryTable

from .test_ledger import record

SPACE = DetNASSpace('small')
COSTS = {'macs': MacsTable(SPACE), 'params': ParamsTable(SPACE)}


def test_best_first_breaks_ties_by_cost_then_id_and_leaves_failures_out():
    rows = [
        record(0, 'b', metrics={'acc': 1.0}, costs={'macs': 2}),
        record(1, 'a', metrics={'acc': 1.0}, costs={'macs': 2}),
        record(2, 'c', metrics={'acc': 1.0}, costs={'macs': 1}),
        record(3, 'd', metrics={'acc': 2.0}, costs={'macs': 9}),
        record(4, 'e', metrics={}, status='failed'),
    ]
    assert [r.id for r in Objective('acc').best_first(rows)] == ['d', 'c', 'a', 'b']
    assert [r.id for r in Objective('acc', 'minimize').best_first(rows)] == ['c', 'a', 'b', 'd']


def test_unrounded_values_decide():
    rows = [record(0, 'x', metrics={'acc': 0.3712}), record(1, 'y', metrics={'acc': 0.37121})]
    assert Objective('acc').best_first(rows)[0].id == 'y'


@pytest.mark.parametrize(
    'make, message',
    [
        (lambda: Objective('acc', 'up'), "'maximize' or 'minimize'; got 'up'"),
        (lambda: Constraint('macs'), 'no bound'),
        (lambda: Constraint('macs', low=2, high=1), 'low=2 above high=1'),
        (lambda: Budget(SPACE, COSTS, [Constraint('latency', high=1)]), "'latency', which the search does not have"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize('bounds', [dict(high=200e6), dict(low=400e6)])
def test_a_constraint_outside_the_space_names_its_range(bounds):
    with pytest.raises(UnmeetableConstraint, match='237,222,720 to 365,472,576'):
        Budget(SPACE, COSTS, [Constraint('macs', **bounds)])


def test_bounds_are_inclusive_on_both_sides():
    archs = [SPACE.parse('0000|0000|00000000|0000'), SPACE.parse('2222|2222|22222222|2222')]
    low, high = (COSTS['macs'].total(arch) for arch in archs)
    assert Budget(SPACE, COSTS, [Constraint('macs', low=low, high=high)]).allows(archs).tolist() == [True, True]
    assert Budget(SPACE, COSTS, [Constraint('macs', low=low + 1)]).allows(archs).tolist() == [False, True]
    assert Budget(SPACE, COSTS, [Constraint('macs', high=high - 1)]).allows(archs).tolist() == [True, False]
    both = [Constraint('macs', low=low + 1), Constraint('params', high=COSTS['params'].total(archs[0]))]
    assert Budget(SPACE, COSTS, both).allows(archs).tolist() == [False, False]


def test_constraints_that_exclude_nothing_are_found():
    idle = Constraint('macs', high=1e9)
    assert Budget(SPACE, COSTS, [idle, Constraint('params', high=2e6)]).idle_constraints() == [idle]
    both, half = Constraint('macs', low=1, high=1e9), Constraint('macs', low=2e3, high=250e6)  # 2e3 for 2e8
    assert Budget(SPACE, COSTS, [both, half]).idle_constraints() == [both, Constraint('macs', low=2e3)]


LATENCY = AdditiveTable('latency', 'ms, on paper', np.linspace(0.001, 0.0123, 80).reshape(20, 4), 0.25)


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        (237222720, '237,222,720'), (300e6, '300,000,000'), (1234567.8, '1,234,568'), (1234.5678, '1,234.57'),
        (12.0, '12'), (0.0123456789, '0.0123457'), (0.5, '0.5'), (0, '0'), (-2.25, '-2.25'),
    ],
)  # fmt: skip
def test_numbers_of_every_magnitude_read_well(value, text):
    assert number_text(value) == text


@pytest.mark.parametrize(
    ('cost', 'text'),
    [
        (('macs', 5553216), 'MACs 5.55 M'), (('flops', 15.2869e9), 'FLOPs 15.3 G'),
        (('params', 95072), 'params 95,072'), (('rho', 0.123456789), 'rho 0.123457'), (('layers', 25), 'layers 25'),
        (('latency', 5.2834, 'ms'), 'latency 5.28 ms'), (('latency', 1234.567, 'ms'), 'latency 1,235 ms'),
        (('latency', 0.0123456, 'ms'), 'latency 0.0123 ms'), (('latency', 7.0, 'ms'), 'latency 7 ms'),
        (('latency', 0, 'ms'), 'latency 0 ms'), (('latency', 0.981234, '× resnet50'), 'latency 0.981 × resnet50'),
        (('peak_memory', 23.5e6, 'B'), 'peak_memory 23.5 MB'),
    ],
)  # fmt: skip
def test_costs_are_written_with_their_units(cost, text):
    assert cost_text(*cost) == text


def test_a_budget_knows_the_units_of_its_costs():
    table = AdditiveTable('latency', 'ms, on paper', np.ones((20, 4)))
    table.unit = 'ms'
    assert Budget(SPACE, {**COSTS, 'latency': table}).text(dict(macs=237222720, latency=20.25)) == (
        'MACs 237 M, latency 20.2 ms'
    )


def test_one_net_and_two_nets():
    assert [counted(n, 'net') for n in (0, 1, 2, 1024)] == ['0 nets', '1 net', '2 nets', '1,024 nets']


def test_constraints_are_written_as_they_are_meant():
    assert str(Constraint('macs', high=300e6)) == 'macs ≤ 300,000,000'
    assert str(Constraint('latency', low=0.25, high=12.5)) == '0.25 ≤ latency ≤ 12.5'
    assert str(Constraint('latency', high=12.123456789)) != str(Constraint('latency', high=12.123456788))


def test_ranges_of_small_numbers_are_named():
    with pytest.raises(UnmeetableConstraint) as error:
        Budget(SPACE, COSTS | {'latency': LATENCY}, [Constraint('latency', high=0.125)])
    low, high = LATENCY.bounds()
    text = str(error.value)
    assert 'meets latency ≤ 0.125 ' in text
    assert f'latency from {low:.6g} to {high:.6g} (ms, on paper)' in text and 'macs from 237,222,720 to' in text
    assert 0.3 < low < high < 1


def test_any_number_of_constraints_with_both_bounds_on_any_cost():
    memory = PeakMemoryTable(SPACE)
    costs = COSTS | {'latency': LATENCY, 'peak_memory': memory}
    archs = SPACE.sample_many(np.random.default_rng(0), 500)
    low, high = ({n: np.percentile([c.total(a) for a in archs], q) for n, c in costs.items()} for q in (25, 75))
    constraints = [
        Constraint('macs', high=high['macs']),
        Constraint('macs', low=low['macs']),
        Constraint('params', low=low['params'], high=high['params']),
        Constraint('latency', low=low['latency'], high=high['latency']),
        Constraint('peak_memory', high=4e6),
    ]
    allowed = Budget(SPACE, costs, constraints).allows(archs)
    expected = [all(c.low <= costs[c.cost].total(arch) <= c.high for c in constraints) for arch in archs]
    assert allowed.tolist() == expected
    without = [[c for c in constraints if c is not left_out] for left_out in constraints]
    counts = [Budget(SPACE, costs, fewer).allows(archs).sum() for fewer in without]
    assert min(counts) > sum(expected) > 0, 'each of them must matter here'


def test_small_limits_are_told_apart():
    """They are part of ledger headers, as text."""
    assert str(Constraint('rho', high=0.3)) == 'rho ≤ 0.3' != str(Constraint('rho', high=0.4))
    assert str(Constraint('macs', low=1, high=300e6)) == '1 ≤ macs ≤ 300,000,000'
    assert str(Constraint('latency', high=12.25)) == 'latency ≤ 12.25'


class Shifted(DetNASSpace):
    """A space whose arrays hold something else than genes."""

    def encode(self, archs):
        return 3 - super().encode(archs)


def test_costs_are_those_of_what_the_space_encodes():
    space = Shifted('small')
    cost = MacsTable('small')
    cost.space = space
    arch, mirrored = space.parse('0123' * 5), space.parse('3210' * 5)
    assert Budget(space, dict(macs=cost)).costs(arch) == {'macs': COSTS['macs'].total(mirrored)}
    assert cost.total(arch) == cost.total(arch.genes) == cost.total('0123' * 5) == COSTS['macs'].total(mirrored)
