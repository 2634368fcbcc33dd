"""Conformance suite for costs: one function to call in the test of a new cost."""

from __future__ import annotations

import math

import numpy as np

from detnas_mm.cost import CostModel
from detnas_mm.spaces import SearchSpace
from detnas_mm.testing.common import check_json

#: Number of architectures drawn.
DRAWS = 64


def check_cost_model(cost: CostModel, space: SearchSpace, seed: int = 0) -> None:
    """Checks that a cost fulfils the contract of :class:`~detnas_mm.cost.CostModel`.

    Costs are finite plain numbers within the bounds. The cost of an architecture does not depend on the other
    architectures of the call, on their order or on the integer type of the ids. ``scope`` is one line of text.

    Args:
        cost: The cost to check.
        space: Its search space.
        seed: Seed of the drawn architectures. A cost must pass for every seed.

    Raises:
        AssertionError: If the contract is violated; says how.
    """
    for what in ('name', 'scope'):
        text = getattr(cost, what, None)
        assert isinstance(text, str) and text and '\n' not in text, f'{what} must be a line of text; got {text!r}.'
    check_json('spec()', cost.spec())
    archs = space.sample_many(np.random.default_rng(seed), DRAWS)
    ids = space.encode(archs)
    totals = cost.totals(ids)
    assert isinstance(totals, np.ndarray) and totals.shape == (DRAWS,), (
        f'totals() of {DRAWS} candidates must be an array of shape ({DRAWS},); got {totals!r}.'
    )
    assert np.isfinite(totals).all(), f'totals() are not all finite: {totals}.'
    again = cost.totals(ids)
    assert again.tolist() == totals.tolist(), 'totals() of the same candidates differ from call to call.'
    backwards = cost.totals(ids[::-1])[::-1]
    assert backwards.tolist() == totals.tolist(), 'totals() depend on the order of the candidates.'
    for dtype in (np.int8, np.uint8, np.int32):
        if not np.iinfo(dtype).min <= ids.min() <= ids.max() <= np.iinfo(dtype).max:
            continue
        assert cost.totals(ids.astype(dtype)).tolist() == totals.tolist(), f'totals() differ for ids of type {dtype}.'
    assert cost.totals(ids[:0]).shape == (0,), 'totals() of no candidates must be an empty array.'
    for arch, value in zip(archs, totals.tolist(), strict=True):
        alone = cost.total(arch)
        assert type(alone) in (int, float), f'total() of {arch} must be a plain number; got {alone!r}.'
        assert alone == value == cost.total(arch.genes), f'total() of {arch} is {alone}; totals() say {value}.'
    low, high = _checked_bounds(cost)
    assert low <= totals.min() and totals.max() <= high, (
        f'bounds() are {low} to {high}; candidates have {totals.min()} to {totals.max()}.'
    )


def _checked_bounds(cost: CostModel) -> tuple[float, float]:
    bounds = cost.bounds()
    assert len(bounds) == 2 and all(type(bound) in (int, float) and not math.isnan(bound) for bound in bounds), (
        f'bounds() must be two plain numbers; got {bounds!r}.'
    )
    assert math.isfinite(bounds[0]), f'bounds()[0] must be finite (only bounds()[1] may be infinite); got {bounds!r}.'
    return bounds
