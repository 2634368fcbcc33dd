"""Latency of structures, interpolated between measured widths."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from detnas_mm.errors import DetNASError
from detnas_mm.latency import MeasuredLatency
from detnas_mm.registry import COSTS
from detnas_mm.systems.mae_det.blocks import BlockSum, Place, columns
from detnas_mm.systems.mae_det.counts import StructureCost
from detnas_mm.systems.mae_det.grid import Grid
from detnas_mm.systems.mae_det.space import MAEDetSpace


def _growing(values: np.ndarray) -> np.ndarray:
    """Makes values monotonic along all axes: the mean of the largest before and the smallest after each point."""
    largest, smallest = values, np.flip(values)
    for axis in range(values.ndim):
        largest = np.maximum.accumulate(largest, axis=axis)
        smallest = np.minimum.accumulate(smallest, axis=axis)
    return (largest + np.flip(smallest)) / 2


class _Table:
    """Latency of a piece in ms, interpolated linearly between the points of its grid.

    A wider convolution measured as faster than a narrower one is noise: values are made monotonic, so that latency does
    not decrease in any gene, and the smallest and largest structures have the extreme latencies.

    Args:
        names: Names of the axes.
        axes: Points of the axes.
        values: Measured latencies, one dimension per axis.
    """

    def __init__(self, names: Sequence[str], axes: Sequence[Sequence[int]], values: np.ndarray) -> None:
        from scipy.interpolate import RegularGridInterpolator  # here, since the import takes half a second

        values = _growing(values)
        # Axes of one point are not interpolated.
        self._names = [name for name, axis in zip(names, axes, strict=True) if len(axis) > 1]
        points = [self._scaled(name, axis) for name, axis in zip(names, axes, strict=True) if len(axis) > 1]
        self._constant = float(values.squeeze()) if not points else 0.0
        self._between = RegularGridInterpolator(points, values.squeeze()) if points else None

    def _scaled(self, name: str, values: Any) -> np.ndarray:
        # Multiply-adds are quadratic in the width of a k x k convolution, and linear in each width of a 1 x 1 one.
        values = np.asarray(values, dtype=float)
        return values**2 if name == 'inner' else values

    def __call__(self, **genes: np.ndarray) -> Any:
        """Returns milliseconds, of the broadcast shape of the genes.

        Raises:
            ValueError: If a gene is outside of the measured points.
        """
        if self._between is None:
            return self._constant
        points = np.broadcast_arrays(*[self._scaled(name, genes[name]) for name in self._names])
        try:
            return self._between(np.stack(points, axis=-1))
        except ValueError as error:
            raise DetNASError(
                f'A structure is outside of the measured range in {self._names} ({error}). Measure a table for its '
                f'space.'
            ) from error


class StructureTables(BlockSum):
    """Tables of all places in ms, and their sums over structures.

    Args:
        grid: The measured widths.
        constant_ms: Constant part, the same for all structures.
        tables_ms: Tables of every place by the names of :attr:`Grid.places`.
    """

    input_size = (1, 1)  # not used: the tables were measured at one size

    def __init__(self, grid: Grid, constant_ms: float, tables_ms: Sequence[Mapping[str, Any]]) -> None:
        self.grid = grid
        self.constant_ms = constant_ms
        self.tables: list[dict[str, _Table]] = []
        for place, pieces in enumerate(grid.places):
            own = {}
            for name, axes in pieces.items():
                points = [grid.axis(place, axis) for axis in axes]
                own[name] = _Table(axes, points, np.array(tables_ms[place][name], dtype=float))
            self.tables.append(own)

    def knots(self, place: Place) -> Sequence[int]:
        """See :meth:`BlockSum.knots`: the points of the grid."""
        points = self.grid.inner[place.number - 1]
        return points if len(points) > 1 else ()

    def stem(self, place: Place, width: np.ndarray, kernel: int) -> np.ndarray:
        """Returns the term of the stem and the constant part."""
        return self.constant_ms + self.tables[0]['stem'](out=width)

    def first(
        self, place: Place, cin: np.ndarray, cout: np.ndarray, kernel: np.ndarray, bottleneck: np.ndarray
    ) -> np.ndarray:
        return self._sum(
            place, ('reduce_first', 'kernel_first', 'shortcut', 'expand', 'sum'),
            cin=cin, out=cout, kernel=kernel, bottleneck=bottleneck, inner=bottleneck,
        )  # fmt: skip

    def rest(self, place: Place, cout: np.ndarray, kernel: np.ndarray, bottleneck: np.ndarray) -> np.ndarray:
        names = ('reduce', 'kernel', 'expand', 'sum')
        return self._sum(place, names, out=cout, kernel=kernel, bottleneck=bottleneck, inner=bottleneck)

    def _sum(self, place: Place, names: Sequence[str], **genes: np.ndarray) -> np.ndarray:
        return sum(self.tables[place.number][name](**genes) for name in names)


@COSTS.register_module()
class StructureLatency(MeasuredLatency, StructureCost):  # type: ignore[override]
    """Predicted latency of the backbone in ms per image: the sum of the measured latencies of its convolutions.

    The file is written by ``tools/analysis_tools/measure_latency.py``, which also compares the sums with measured whole
    nets. It contains a table for every convolution of every super-block over a grid of widths, between which latency is
    interpolated.

    Args:
        space: A :class:`MAEDetSpace` or its first argument.
        file: See :class:`~detnas_mm.latency.MeasuredLatency`, which also describes the other arguments.
        input_size: (height, width) in pixels that the file must have; None for any.
        relative_to: Name of a net that was measured with the tables, such as ``'resnet50'``.

    Raises:
        ValueError: If an argument is invalid; on first use, if the file is.
    """

    fields = dict(grid=dict, tables_ms=list, iqr_ms=list, references_ms=dict)
    space: MAEDetSpace

    def __init__(
        self,
        space: MAEDetSpace | str | Mapping[str, Any],
        file: str | Path,
        input_size: int | Sequence[int] | None = None,
        relative_to: str | None = None,
    ) -> None:
        super().__init__(MAEDetSpace(space), file, 'backbone', input_size, relative_to)
        _, self._stem_kernel, stem_stride = self.space.encode([self.space.smallest()])[0, :3].tolist()
        self._strides = (stem_stride, *self.space.strides)

    def problem(self, found: dict[str, Any]) -> str | None:
        return _problem(found)

    def numbers(self) -> list[Any]:
        return [self.measurement[name] for name in ('grid', 'tables_ms', 'constant_ms')]

    @cached_property
    def _tables(self) -> StructureTables:
        grid, tables, constant = self.numbers()
        return StructureTables(Grid(**grid), constant, tables)

    def knots(self, place: Place) -> Sequence[int]:
        return self._tables.knots(place)

    def stem(self, place: Place, width: np.ndarray, kernel: int) -> np.ndarray:
        return self._tables.stem(place, width, kernel) / self.unit_ms

    def first(
        self, place: Place, cin: np.ndarray, cout: np.ndarray, kernel: np.ndarray, bottleneck: np.ndarray
    ) -> np.ndarray:
        return self._tables.first(place, cin, cout, kernel, bottleneck) / self.unit_ms

    def rest(self, place: Place, cout: np.ndarray, kernel: np.ndarray, bottleneck: np.ndarray) -> np.ndarray:
        return self._tables.rest(place, cout, kernel, bottleneck) / self.unit_ms

    def totals(self, codes: np.ndarray) -> np.ndarray:
        """See :meth:`CostModel.totals`.

        Raises:
            ValueError: If the array has a wrong shape, or a structure is outside of the measured range.
        """
        for _, genes in columns(codes):
            if genes.strides != self._strides or genes.stem_kernel != self._stem_kernel:
                raise DetNASError(
                    f'A structure has strides {genes.strides} and stem kernel {genes.stem_kernel}; the table is for '
                    f'{self.space!r}, with {self._strides} and {self._stem_kernel}.'
                )
        return super().totals(codes)


def _problem(found: dict[str, Any]) -> str | None:
    """Returns a description of the first error in the numbers of a file; None if there is none."""
    try:
        grid = Grid(**found['grid'])
        axes = [*grid.widths, *grid.bottlenecks, *grid.inner, grid.kernels]
        ordered = all(axis and all(type(v) is int for v in axis) and axis[0] > 0 for axis in axes)
        ordered &= all(first < second for axis in axes for first, second in itertools.pairwise(axis))
        ordered &= all(set(few) <= set(more) for few, more in zip(grid.bottlenecks, grid.inner, strict=True))
    except (TypeError, ValueError):
        ordered = False
    if not ordered or len(grid.widths) != len(grid.bottlenecks) + 1 or grid.kernels != found['space'].get('kernels'):
        return "its grid must be ascending lists of widths and bottlenecks and the space's kernels"
    if not all(_latency(ms) and ms > 0 for ms in found['references_ms'].values()):
        return 'references_ms must be positive numbers'
    if not _latency(found['constant_ms']):
        return f'constant_ms must be a number of at least 0; it is {str(found["constant_ms"])[:40]}'
    if len(found['tables_ms']) != len(grid.places):
        return f'tables_ms has {len(found["tables_ms"])} places; the grid has {len(grid.places)}'
    for place, pieces in enumerate(grid.places):
        for name, axes_of_it in pieces.items():
            try:
                table = np.array(found['tables_ms'][place][name])
            except (TypeError, ValueError, KeyError, IndexError):
                return f'tables_ms has no table {name!r} of numbers at place {place}'
            shape = grid.shape(place, axes_of_it)
            numbers = table.dtype.kind in 'if' and bool(np.isfinite(table).all() and (table >= 0).all())
            if table.shape != shape or not numbers:
                return f'{name!r} at place {place} is no table of numbers of at least 0, of shape {shape}'
    return None


def _latency(value: Any) -> bool:
    """Returns True for a finite number of at least 0."""
    return type(value) in (int, float) and 0 <= value <= sys.float_info.max
