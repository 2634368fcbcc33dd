"""Small spaces of structures, for tests that try everything."""

import itertools

import numpy as np
import pytest

from detnas_mm.systems.mae_det.exact import solve

SMALL = dict(
    strides=[2, 1, 2], stem_widths=[8, 16], widths=[8, 40], growth=[1, 2.5], depths=[[1, 2], [1, 3], [1, 2]],
    bottlenecks=[8, 24], bottleneck_ratio=[0.3, 1],
)  # fmt: skip


def members(space):
    """All of a space: the product of all genes, less what breaks a rule; shape (members, genes)."""
    spec = space.spec()
    step = spec['width_step']
    ends = [spec['stem_widths'], *[spec['widths']] * len(spec['strides'])]
    low, high = spec['bottlenecks']
    bottlenecks = range(low, high + 1, spec['bottleneck_step'])
    blocks = [
        np.array(list(itertools.product(spec['kernels'], [stride], range(few, many + 1), bottlenecks)))
        for stride, (few, many) in zip(spec['strides'], spec['depths'], strict=True)
    ]
    picks = np.stack(np.meshgrid(*[np.arange(len(b)) for b in blocks], indexing='ij'), -1).reshape(-1, len(blocks))
    rows = []
    for chain in itertools.product(*[range(first, last + 1, step) for first, last in ends]):
        own = np.empty((len(picks), 3 + 5 * len(blocks)), dtype=np.int64)
        own[:, :3] = chain[0], spec['stem_kernel'], spec['stem_stride']
        for number, block in enumerate(blocks):
            own[:, 3 + 5 * number] = chain[number + 1]
            own[:, 4 + 5 * number : 8 + 5 * number] = block[picks[:, number]]
        rows.append(own[space.contains(own)])
    codes = np.concatenate(rows)
    assert len(codes) == space.size
    return codes


def assert_solved(space, score, everything, costs, quantile, above):
    """Exact search against trying everything, within limits at a quantile of all: the bound holds, the best is near.

    Args:
        space: The space.
        score: What is maximised.
        everything: All of the space, shape (members, genes).
        costs: (cost, its values of everything) by name.
        quantile: Where in its values each cost is limited.
        above: How far above the best the bound may be, as a share of it.

    Returns:
        What was found, and the score of the best that there is.
    """
    limits = {name: float(np.quantile(values, quantile)) for name, (_, values) in costs.items()}
    feasible = np.ones(len(everything), dtype=bool)
    for name, (_, values) in costs.items():
        feasible &= values <= limits[name]
    best = score.totals(everything)[feasible].max()
    found = solve(space, score, {name: (cost, limits[name]) for name, (cost, _) in costs.items()}, gap=0.0)
    assert found.bound >= best - 1e-9, 'the bound must hold'
    assert found.value <= best + 1e-9 and space.contains(found.genes[None])[0]
    assert all(cost.totals(found.genes[None])[0] <= limits[name] for name, (cost, _) in costs.items())
    assert found.value == pytest.approx(float(score.totals(found.genes[None])[0]), rel=1e-12)
    assert found.value > best - 0.01 * abs(best) and found.bound < best + above * abs(best)
    return found, best
