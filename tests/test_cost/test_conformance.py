"""Every cost keeps the contract, and its bounds are the extremes of the space."""

import itertools

import numpy as np
import pytest

from detnas_mm.cost import MacsTable, ParamsTable, PeakMemoryTable
from detnas_mm.spaces import DetNASSpace
from detnas_mm.testing import check_cost_model

SPACES = ['small', dict(stem=4, channels=(8, 32, 128), blocks=(1, 2, 1)), dict(stem=4, channels=(8,), blocks=(1,))]
KINDS = {
    'macs': lambda space: MacsTable(space, (64, 96)),
    'macs with classifier': lambda space: MacsTable(space, 64, with_classifier=10),
    'params': ParamsTable,
    'peak memory': lambda space: PeakMemoryTable(space, (64, 96)),
    'peak memory, last output': lambda space: PeakMemoryTable(space, 64, (len(DetNASSpace(space).channels) - 1,)),
}


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('spec', SPACES, ids=['small', 'tiny', 'one block'])
def test_keeps_the_contract(kind, spec):
    check_cost_model(KINDS[kind](spec), DetNASSpace(spec))


@pytest.mark.parametrize('kind', KINDS)
def test_bounds_are_reached(kind):
    cost = KINDS[kind](SPACES[1])
    ids = np.array(list(itertools.product(range(4), repeat=4)))
    assert cost.bounds() == (cost.totals(ids).min(), cost.totals(ids).max())
