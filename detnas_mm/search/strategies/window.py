"""Mutation that keeps within a window of costs: what one change takes, others give back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: How often a candidate outside is changed again, and by how many tries at a time. With fewer, evolution of MAE-DET
#: comes less near the optimum in windows of 0.05 % (benchmarks/narrow_windows.py); more take longer.
STEPS, TRIES = 8, 16


def moved_inside(
    candidates: np.ndarray, excess: Callable[[np.ndarray], np.ndarray], change: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Candidates that leave the constraints, changed further until they meet them, or as near as some steps bring them.

    In every step each candidate outside has some tries, and the one least far outside takes its place.

    Args:
        candidates: Shape (candidates, genes); left as they are.
        excess: How far outside candidates are, 0 inside; see :meth:`Budget.excess_of_codes`.
        change: Changed copies of candidates, such as their mutations.

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
