"""Grid of widths at which the latency of structures is measured, and the tables over it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detnas_mm.errors import DetNASError
from detnas_mm.systems.mae_det.space import MAEDetSpace

#: Tables of a super-block and the axes of each. A convolution includes its BN and ReLU, ``shortcut`` its pool, ``sum``
#: the last ReLU; ``*_first`` are those of the first bottleneck. ``inner`` is the bottleneck width on a finer
#: grid: latency jumps where the weights of a k x k convolution, quadratic in that width, no longer fit into a cache.
PIECES: dict[str, tuple[str, ...]] = dict(
    reduce_first=('cin', 'bottleneck'),
    kernel_first=('kernel', 'inner'),
    shortcut=('cin', 'out'),
    reduce=('out', 'bottleneck'),
    kernel=('kernel', 'inner'),
    expand=('bottleneck', 'out'),
    sum=('out',),
)
#: Table of the stem.
STEM: dict[str, tuple[str, ...]] = dict(stem=('out',))
#: Number of steps of ``inner`` between two neighbouring bottleneck widths of the grid.
FINER = 3


@dataclass(frozen=True)
class Grid:
    """Measured widths per place: 0 is the stem, super-blocks are numbered from 1.

    Attributes:
        widths: Output channels of stem and super-blocks, ascending.
        bottlenecks: Inner channels of super-blocks, ascending.
        kernels: Kernels, the same for all super-blocks.
        inner: Inner channels at which k x k convolutions are measured: ``bottlenecks`` and points between them.
    """

    widths: list[list[int]]
    bottlenecks: list[list[int]]
    kernels: list[int]
    inner: list[list[int]]

    @classmethod
    def of(cls, space: MAEDetSpace, points: int) -> Grid:
        """Builds a grid that covers a space with at most ``points`` widths per place, about geometrically spaced.

        Raises:
            ValueError: If ``points`` is less than 2.
        """
        if points < 2:
            raise DetNASError(f'grid must be at least 2 widths per place; got {points}.')
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
        """Tables of every place with their axes, see :data:`PIECES`."""
        return [STEM, *[PIECES] * len(self.bottlenecks)]

    def axis(self, place: int, name: str) -> list[int]:
        """Returns the points of axis ``'cin'``, ``'out'``, ``'bottleneck'``, ``'inner'`` or ``'kernel'`` at a place."""
        if name == 'kernel':
            return self.kernels
        if name in ('bottleneck', 'inner'):
            return (self.bottlenecks if name == 'bottleneck' else self.inner)[place - 1]
        return self.widths[place - (name == 'cin')]

    def shape(self, place: int, axes: Sequence[str]) -> tuple[int, ...]:
        """Returns the shape of a table."""
        return tuple(len(self.axis(place, name)) for name in axes)


def _between(low: int, high: int, step: int, points: int) -> list[int]:
    """Returns multiples of ``step`` from low to high, about geometrically spaced."""
    inner = np.round(np.geomspace(low, high, points) / step) * step
    return sorted({low, high, *(int(width) for width in np.clip(inner, low, high))})
