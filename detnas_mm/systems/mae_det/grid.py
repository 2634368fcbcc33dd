"""The widths of structures at which latency is measured, and the tables that are measured there."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detnas_mm.errors import DetNASError
from detnas_mm.systems.mae_det.space import MAEDetSpace

#: Tables of a super-block, and what each depends on. A convolution has its BN and ReLU with it, ``shortcut`` the pool
#: before it, ``sum`` the last ReLU. Those of the first bottleneck alone are called so. ``inner`` is the bottleneck at
#: more points: time jumps up where the weights of a k x k convolution, which grow with its square, outgrow a cache.
PIECES: dict[str, tuple[str, ...]] = dict(
    reduce_first=('cin', 'bottleneck'),
    kernel_first=('kernel', 'inner'),
    shortcut=('cin', 'out'),
    reduce=('out', 'bottleneck'),
    kernel=('kernel', 'inner'),
    expand=('bottleneck', 'out'),
    sum=('out',),
)
#: The one table of the stem.
STEM: dict[str, tuple[str, ...]] = dict(stem=('out',))
#: ``inner`` divides every step from one bottleneck of the grid to the next into so many.
FINER = 3


@dataclass(frozen=True)
class Grid:
    """The widths that are measured, per place: the stem is 0, super-blocks count from 1.

    Attributes:
        widths: Of stem and super-blocks, ascending.
        bottlenecks: Of super-blocks.
        kernels: Of all super-blocks.
        inner: Bottlenecks of k x k convolutions: those of the grid, and more between them.
    """

    widths: list[list[int]]
    bottlenecks: list[list[int]]
    kernels: list[int]
    inner: list[list[int]]

    @classmethod
    def of(cls, space: MAEDetSpace, points: int) -> Grid:
        """Covers all that a space holds, by at most ``points`` widths in about equal ratios.

        Raises:
            ValueError: If there are fewer than two points.
        """
        if points < 2:
            raise DetNASError(f'A grid has 2 widths or more; got {points}.')
        spec = space.spec()
        small, large = space.encode([space.smallest(), space.largest()]).tolist()
        pairs = list(zip(small, large, strict=True))
        widths = [_between(*pair, spec['width_step'], points) for pair in [pairs[0], *pairs[3::5]]]
        step = spec['bottleneck_step']
        bottlenecks = [_between(*pair, step, points) for pair in pairs[7::5]]
        inner = [
            sorted({*axis, *(btn for pair in itertools.pairwise(axis) for btn in _between(*pair, step, FINER + 1))})
            for axis in bottlenecks
        ]
        return cls(widths, bottlenecks, spec['kernels'], inner)

    @property
    def places(self) -> list[dict[str, tuple[str, ...]]]:
        """The tables of every place, see :data:`PIECES`."""
        return [STEM, *[PIECES] * len(self.bottlenecks)]

    def axis(self, place: int, name: str) -> list[int]:
        """The values that ``'cin'``, ``'out'``, ``'bottleneck'``, ``'inner'`` or ``'kernel'`` takes at a place."""
        if name == 'kernel':
            return self.kernels
        if name in ('bottleneck', 'inner'):
            return (self.bottlenecks if name == 'bottleneck' else self.inner)[place - 1]
        return self.widths[place - (name == 'cin')]

    def shape(self, place: int, axes: Sequence[str]) -> tuple[int, ...]:
        """The shape of a table."""
        return tuple(len(self.axis(place, name)) for name in axes)


def _between(low: int, high: int, step: int, points: int) -> list[int]:
    """Multiples of ``step`` from low to high, in about equal ratios."""
    inner = np.round(np.geomspace(low, high, points) / step) * step
    return sorted({low, high, *(int(width) for width in np.clip(inner, low, high))})
