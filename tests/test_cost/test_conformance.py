"""Every cost keeps the contract, and its bounds are the extremes of the space."""

import itertools

import numpy as np
import pytest

from detnas_mm.latency import LatencyTable
from detnas_mm.systems.detnas import DetNASSpace, MacsTable, ParamsTable, PeakMemoryTable
from detnas_mm.testing import check_cost_model
from tests import latency

SPACES = ['small', dict(stem=4, channels=(8, 32, 128), blocks=(1, 2, 1)), dict(stem=4, channels=(8,), blocks=(1,))]
KINDS = {
    'macs': lambda space, _: MacsTable(space, (64, 96)),
    'macs with classifier': lambda space, _: MacsTable(space, 64, with_classifier=10),
    'params': lambda space, _: ParamsTable(space),
    'peak memory': lambda space, _: PeakMemoryTable(space, (64, 96)),
    'peak memory, last output': lambda space, _: PeakMemoryTable(space, 64, (len(DetNASSpace(space).channels) - 1,)),
    'latency': lambda space, folder: LatencyTable(
        DetNASSpace(space), latency.write(folder / 'a.json', DetNASSpace(space))
    ),
}


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('spec', SPACES, ids=['small', 'tiny', 'one block'])
def test_keeps_the_contract(kind, spec, tmp_path):
    check_cost_model(KINDS[kind](spec, tmp_path), DetNASSpace(spec))


@pytest.mark.parametrize('kind', KINDS)
def test_bounds_are_reached(kind, tmp_path):
    cost = KINDS[kind](SPACES[1], tmp_path)
    ids = np.array(list(itertools.product(range(4), repeat=4)))
    assert cost.bounds() == pytest.approx((cost.totals(ids).min(), cost.totals(ids).max()), rel=1e-12)
