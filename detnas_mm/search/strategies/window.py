"""Mutation within a window of costs: further changes move candidates back inside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: Times that a candidate outside is changed again, and tries in each of them. With fewer, evolution of MAE-DET ends
#: further from the optimum in windows of 0.05 % (benchmarks/narrow_windows.py); more take longer.
STEPS, TRIES = 8, 16


def moved_inside(
    candidates: np.ndarray, excess: Callable[[np.ndarray], np.ndarray], change: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Changes candidates that break constraints further, until they meet them or the steps are used up.

    In every step each candidate outside gets some tries; the try that violates constraints least replaces it.

    Args:
        candidates: Shape (candidates, genes); not changed.
        excess: Violation of the constraints, 0 inside; see :meth:`Budget.excess_of_codes`.
        change: Function that returns changed copies of candidates, such as mutations.

    Returns:
        An array of the same shape.
    """
    moved = candidates.copy()
    far = excess(moved)
    for _ in range(STEPS):
        outside = np.flatnonzero(far > 0)
        if not len(outside):
            break
        tries = change(np.repeat(moved[outside], TRIES, axis=0))
        left = excess(tries).reshape(len(outside), TRIES)
        best = left.argmin(axis=1) + np.arange(len(outside)) * TRIES
        nearer = left.min(axis=1) < far[outside]
        moved[outside[nearer]] = tries[best[nearer]]
        far[outside[nearer]] = left.min(axis=1)[nearer]
    return moved
