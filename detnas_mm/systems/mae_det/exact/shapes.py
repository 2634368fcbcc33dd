"""Fits the coefficients of scores and costs as functions of the bottleneck, and verifies them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

#: Points between two bottlenecks (as fractions) at which a fitted shape is verified.
_PROBES = (0.0, 0.1, 0.35, 0.8, 1.0)
#: Coefficients below this share of the value are rounding errors of 0.
_ROUNDING = 1e-12


class Shape(NamedTuple):
    """A function of the bottleneck b: constant + log * ln b + linear * b + square * b * b; arrays that broadcast."""

    constant: np.ndarray
    log: np.ndarray
    linear: np.ndarray
    square: np.ndarray

    def at(self, btn: np.ndarray) -> np.ndarray:
        """Returns the values at bottlenecks."""
        return self.constant + self.log * np.log(btn) + btn * (self.linear + btn * self.square)


def logarithmic(
    function: Callable[[Any], Any], shape: tuple[int, int], low: np.ndarray, high: np.ndarray
) -> Shape | None:
    """Fits constant and log of a function that is an increasing logarithm between two bottlenecks.

    Args:
        function: Maps bottlenecks to values that broadcast to ``shape``.
        shape: (kernels, entries).
        low: The smaller bottleneck of each entry, shape (entries,).
        high: The larger one.

    Returns:
        The coefficients, of that shape; None if the function does not have that form.
    """
    one, two = (_values(function, shape, end) for end in (low, high))
    log, zero = (two - one) / np.log(high / low), np.zeros(shape)
    found = Shape(one - log * np.log(low), log, zero, zero)
    return found if (log >= 0).all() and _holds(found, function, low, high) else None


def quadratic(
    function: Callable[[Any], Any], shape: tuple[int, int], low: np.ndarray, high: np.ndarray
) -> Shape | None:
    """Fits constant, linear and square of a function that is a quadratic, the latter two not negative.

    See :func:`logarithmic`.
    """
    width = high - low
    one, two, three = (_values(function, shape, place) for place in (low, low + width / 2, high))
    most = np.maximum(np.abs(one), np.abs(three))
    bend = 2 * (one + three - 2 * two)
    bend = np.where(np.abs(bend) <= _ROUNDING * most, 0.0, bend)
    square = bend / width**2
    linear = (three - one - bend) / width - 2 * square * low
    linear = np.where(np.abs(linear) * width**2 <= _ROUNDING * most * high, 0.0, linear)
    found = Shape(one - low * (linear + square * low), np.zeros(shape), linear, square)
    good = (square >= 0).all() and (linear >= 0).all() and _holds(found, function, low, high)
    return found if good else None


def _values(function: Callable[[Any], Any], shape: tuple[int, int], btn: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.asarray(function(btn), dtype=float), shape)


def _holds(found: Shape, function: Callable[[Any], Any], low: np.ndarray, high: np.ndarray) -> bool:
    """Returns True if coefficients reproduce a function's values at the ends and between them."""
    places = [low + share * (high - low) for share in _PROBES]
    return all(
        np.allclose(found.at(btn), _values(function, found.constant.shape, btn), rtol=1e-9, atol=1e-9) for btn in places
    )
