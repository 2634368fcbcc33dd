"""The conformance suite of costs passes good ones (see test_cost) and names what is wrong with bad ones."""

import numpy as np
import pytest

from detnas_mm.systems.detnas import DetNASSpace, MacsTable
from detnas_mm.systems.mae_det import MAEDetSpace, StructureParams
from detnas_mm.testing import check_cost_model

TINY = dict(stem=4, channels=(8, 12), blocks=(2, 2))


class Nameless(MacsTable):
    name = scope = ''

    def __setattr__(self, key, value):
        if key not in ('name', 'scope'):
            super().__setattr__(key, value)


class ListOfTotals(MacsTable):
    def totals(self, ids):
        return super().totals(ids).tolist()


class NotFinite(MacsTable):
    def totals(self, ids):
        return super().totals(ids) * np.nan


class Drifting(MacsTable):
    calls = 0

    def totals(self, ids):
        self.calls += 1
        return super().totals(ids) + self.calls


class ByOrder(MacsTable):
    def totals(self, ids):
        return super().totals(ids) + np.arange(len(ids))


class Narrow(MacsTable):
    def totals(self, ids):
        return (np.asarray(ids) * 100).sum(1)


class NumpyTotal(MacsTable):
    def total(self, arch):
        return self.totals(np.array([getattr(arch, 'genes', arch)]))[0]


class OtherAlone(MacsTable):
    def total(self, arch):
        return super().total(arch) + 1


class NarrowBounds(MacsTable):
    def bounds(self):
        low, high = super().bounds()
        return high, high


class NoBounds(MacsTable):
    def bounds(self):
        return 0.0, float('nan')


class NoLowBound(MacsTable):
    def bounds(self):
        return -float('inf'), 1e9


@pytest.mark.parametrize(
    ('kind', 'match'),
    [
        (Nameless, 'name must be a line of text'),
        (ListOfTotals, r'must be an array of shape \(64,\)'),
        (NotFinite, 'not all finite'),
        (Drifting, 'differ from call to call'),
        (ByOrder, 'depend on the order'),
        (Narrow, 'differ for ids of type'),
        (NumpyTotal, r'total\(\) of .* must be a plain number'),
        (OtherAlone, r'totals\(\) say'),
        (NarrowBounds, r'bounds\(\) are .* candidates have'),
        (NoBounds, 'two plain numbers'),
        (NoLowBound, 'must be finite'),
    ],
)
def test_broken_costs_are_caught(kind, match):
    with pytest.raises(AssertionError, match=match):
        check_cost_model(kind(TINY, 32), DetNASSpace(TINY))


def test_ids_beyond_a_byte_are_no_fault():
    check_cost_model(StructureParams('authors'), MAEDetSpace('authors'))
