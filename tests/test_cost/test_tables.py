"""Cost tables: look-ups, bounds, errors. test_count.py checks their values."""

import numpy as np
import pytest

from detnas_mm.cost import AdditiveTable, MaximumTable
from detnas_mm.systems.detnas import DetNASSpace, MacsTable, ParamsTable, PeakMemoryTable

TINY = dict(stem=4, channels=(8, 12), blocks=(1, 2))


@pytest.mark.parametrize('positions', [1, 2, 5])
@pytest.mark.parametrize('choices', [1, 2, 4, 20])
@pytest.mark.parametrize('dtype', [np.int64, np.int8, np.uint8, np.int32])
def test_totals_add_up(positions, choices, dtype):
    rng = np.random.default_rng(positions + choices)
    table = rng.integers(10**12, size=(positions, choices))
    ids = rng.integers(choices, size=(50, positions)).astype(dtype)
    expected = [7 + sum(int(table[p, i]) for p, i in enumerate(row)) for row in ids]
    cost = AdditiveTable('x', 'y', table, 7)
    assert cost.totals(ids).tolist() == expected
    assert [cost.total(row) for row in ids] == expected
    assert cost.totals(ids[:0]).shape == (0,)


def test_bounds_are_the_extremes():
    table = AdditiveTable('x', 'y', np.array([[3, 1, 2], [10, 30, 20]]), 100)
    grid = np.stack(np.meshgrid(range(3), range(3)), -1).reshape(-1, 2)
    assert table.bounds() == (table.totals(grid).min(), table.totals(grid).max()) == (111, 133)


@pytest.mark.parametrize('constant', [0, 5, 25, 100])
@pytest.mark.parametrize('dtype', [np.int64, np.int8, np.uint8])
def test_maxima(constant, dtype):
    table = np.array([[3, 1, 2], [10, 30, 20]])
    cost = MaximumTable('x', 'y', table, constant)
    grid = np.stack(np.meshgrid(range(3), range(3)), -1).reshape(-1, 2).astype(dtype)
    expected = [max(constant, table[0, i], table[1, j]) for i, j in grid]
    assert cost.totals(grid).tolist() == expected
    assert cost.bounds() == (min(expected), max(expected))
    assert type(cost.total([0, 1])) is int and cost.totals(grid[:0]).shape == (0,)
    with pytest.raises(ValueError, match='must lie between 0 and 2; got 0 to 3'):
        cost.totals(np.array([[0, 3]]))


def test_total_takes_architectures_and_gives_plain_numbers():
    space = DetNASSpace(TINY)
    table = MacsTable.build(space, 32)
    arch = space.sample(np.random.default_rng(0))
    assert type(table.total(arch)) is int
    assert table.total(arch) == table.total(arch.genes) == table.totals(space.encode([arch]))[0]
    halves = AdditiveTable('x', 'y', np.array([[0.5, 1.5]]), 1.0)
    assert halves.total([1]) == 2.5 and type(halves.total([1])) is float


@pytest.mark.parametrize('kind', [MacsTable, ParamsTable, PeakMemoryTable])
def test_total_reads_text_by_the_space(kind):
    table = kind(DetNASSpace(TINY))
    assert table.total('3|12') == table.total([3, 1, 2]) != table.total('0|00')
    with pytest.raises(ValueError, match=r"'3\|123' has stages of \(1, 3\) blocks"):
        table.total('3|123')


def test_total_of_text_without_a_space():
    table = AdditiveTable('x', 'y', np.array([[1, 2]]))
    with pytest.raises(
        ValueError, match="AdditiveTable 'x' has no space, so it cannot parse the text '1'. Give an Arch"
    ):
        table.total('1')


@pytest.mark.parametrize(
    ('ids', 'match'),
    [
        (np.zeros((4, 2), int), r'shape \(candidates, 3\); got int64 of shape \(4, 2\)'),
        (np.zeros(3, int), r'of shape \(3,\)'),
        (np.zeros((1, 3)), 'got float64'),
        (np.array([[0, 0, 4]]), 'must lie between 0 and 3; got 0 to 4'),
        (np.array([[0, -1, 0]]), 'got -1 to 0'),
    ],
)
def test_ids_that_do_not_fit_are_refused(ids, match):
    with pytest.raises(ValueError, match=match):
        MacsTable(TINY, 32).totals(ids)


@pytest.mark.parametrize('size', [0, -5, (224,), (224, 0), (3, 224, 224), (224.0, 224), '224', None])
def test_input_sizes_that_do_not_fit_are_refused(size):
    with pytest.raises(ValueError, match='input_size must be'):
        MacsTable(TINY, size)


def test_scope_says_what_is_counted():
    assert MacsTable('small').scope == 'multiply-adds of convolutions, backbone, at 224x224'
    assert MacsTable(TINY, (96, 128)).scope.endswith('at 96x128') and MacsTable(TINY, 96).input_size == (96, 96)
    assert 'with last conv and classifier' in MacsTable('small', with_classifier=10).scope
    assert (MacsTable('small').name, ParamsTable('small').name) == ('macs', 'params')


def test_figures_of_the_reference():
    macs = MacsTable.build('small', input_size=(224, 224))
    assert macs.total([0] * 20) == 262_705_856
    assert macs.total(macs.space.parse('2120|2112|33130031|3132')) == 288_082_368
    assert ParamsTable('small').total(macs.space.parse('2120|2112|33130031|3132')) == 1_849_680
    # what the authors' sampling on ImageNet counts on top: last convolution and classifier
    assert MacsTable('small', with_classifier=1000).total([0] * 20) - 262_705_856 == 33_136_640
