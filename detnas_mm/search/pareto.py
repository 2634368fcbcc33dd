"""Non-dominated sorting, crowding distance and hypervolume."""

from __future__ import annotations

import numpy as np


def front_ranks(gains: np.ndarray) -> np.ndarray:
    """Returns ranks of non-dominated sorting: 0 for the Pareto front, 1 for the front without those, and so on.

    One row dominates another if it is at least as good in every objective and better in one; equal rows share a rank.

    Args:
        gains: Shape (candidates, objectives), larger is better.

    Returns:
        Integers of shape (candidates,).
    """
    gains = np.asarray(gains, dtype=float)
    ranks = np.zeros(len(gains), dtype=int)
    # In this order no row is dominated by a later one, so one pass determines all ranks.
    order = np.lexsort(-gains.T[::-1]) if gains.size else np.arange(len(gains))
    fronts: list[list[int]] = []
    for index in order.tolist():
        low, high = 0, len(fronts)
        while low < high:  # the first front without a row that dominates this one
            middle = (low + high) // 2
            others = gains[fronts[middle]]
            if ((others >= gains[index]).all(1) & (others > gains[index]).any(1)).any():
                low = middle + 1
            else:
                high = middle
        if low == len(fronts):
            fronts.append([])
        fronts[low].append(index)
        ranks[index] = low
    return ranks


def crowding_distances(gains: np.ndarray) -> np.ndarray:
    """Computes the crowding distance on one front (Deb et al., NSGA-II, 2002, section III-B).

    Args:
        gains: Shape (candidates, objectives), all of one front.

    Returns:
        Shape (candidates,): the sum over objectives of the distance between both neighbours divided by the range;
        infinite at the ends.
    """
    gains = np.asarray(gains, dtype=float)
    distances = np.zeros(len(gains))
    for column in gains.T:
        order = np.argsort(column, kind='stable')
        ordered = column[order]
        span = ordered[-1] - ordered[0] if len(ordered) else 0.0
        distances[order[:1]] = distances[order[-1:]] = np.inf
        if span > 0:
            distances[order[1:-1]] += (ordered[2:] - ordered[:-2]) / span
    return distances


def hypervolume(gains: np.ndarray, reference: np.ndarray) -> float:
    """Returns the hypervolume of two objectives: the dominated area above a point (Zitzler and Thiele, PPSN 1998).

    Args:
        gains: Shape (candidates, 2), larger is better; dominated ones do not change the result.
        reference: Shape (2,); candidates not above it in both objectives add nothing.

    Returns:
        The area, in the product of both units.
    """
    gains = np.asarray(gains, dtype=float).reshape(-1, 2)
    above = gains[(gains > reference).all(axis=1)]
    area, highest = 0.0, float(reference[1])
    for first, second in above[np.lexsort(-above.T[::-1])].tolist():  # sorted by the first objective
        if second > highest:
            area += (first - float(reference[0])) * (second - highest)
            highest = second
    return area
