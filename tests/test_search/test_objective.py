import pytest

from detnas_mm.cost import MacsTable, ParamsTable
from detnas_mm.search import Budget, Constraint, Objective, UnmeetableConstraint
from detnas_mm.spaces import DetNASSpace

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
        (lambda: Budget(SPACE, COSTS, [Constraint('latency', high=1)]), "'latency', which nothing produces"),
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


def test_constraints_that_never_bind_are_told():
    idle = Constraint('macs', high=1e9)
    assert Budget(SPACE, COSTS, [idle, Constraint('params', high=2e6)]).idle_constraints() == [idle]


def test_small_limits_are_told_apart():
    """Headers of ledgers hold them as text."""
    assert str(Constraint('rho', high=0.3)) == 'rho ≤ 0.3' != str(Constraint('rho', high=0.4))
    assert str(Constraint('macs', low=1, high=300e6)) == '1 ≤ macs ≤ 300,000,000'
    assert str(Constraint('latency', high=12.25)) == 'latency ≤ 12.25'
