"""Measuring what the convolutions of structures take, over a grid of widths. Imports torch."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from detnas_mm.latency.measure import common_factor, compared, milliseconds
from detnas_mm.latency.stopwatch import Stopwatch, TimedRun
from detnas_mm.latency.timing import Pace, interleaved, spread, steadied
from detnas_mm.spaces import Architecture
from detnas_mm.systems.mae_det.grid import Grid
from detnas_mm.systems.mae_det.model import MAEDetNet
from detnas_mm.systems.mae_det.space import MAEDetSpace
from detnas_mm.systems.mae_det.structure import to_text, unpack
from detnas_mm.systems.mae_det.structure_latency import StructureTables

#: Where a cell of a table stands: place, piece, index into the table.
Cell = tuple[int, str, tuple[int, ...]]
#: Bottlenecks of every block of the nets that the tables are measured in. The code of their convolutions comes into the
#: caches with the second, and is there for the third: tables hold the mean of both.
DEPTH = 3
#: Bytes read between two runs, more than caches hold.
OTHER_WORK = 128 * 2**20


def other_work(device: str) -> Callable[[], Any]:
    """What empties caches before a run: reads more than they hold, as a detector's neck and head do between images."""
    buffer = torch.ones(OTHER_WORK // 4, device=device)
    return buffer.sum


def covering_structures(space: MAEDetSpace, grid: Grid) -> list[Architecture]:
    """Structures that hold all cells of all tables.

    First a Latin square: widths of places in turn by its rows and its columns, bottlenecks by its symbols, so that any
    two of the three take on all pairs. Rows, columns and symbols go from narrow to wide at all places: narrow
    convolutions are measured in the company of narrow ones, wide in that of wide ones, as they stand in nets. Then,
    for every kernel, the bottlenecks between those of the square, in blocks as wide as they go with. Each block has
    :data:`DEPTH` bottlenecks. The structures are made of the grid's widths and need not keep to the space's rules.

    Args:
        space: The space.
        grid: Its widths.
    """
    fixed = space.encode([space.smallest()])[0]
    side = max(len(axis) for axis in (*grid.widths, *grid.bottlenecks, grid.kernels))

    def structure(widths: Iterable[int], btns: Iterable[int], kernel: int) -> Architecture:
        genes = fixed.copy()
        genes[0], *genes[3::5] = widths
        genes[4::5], genes[6::5], genes[7::5] = kernel, DEPTH, list(btns)
        return Architecture(tuple(genes.tolist()))

    found = []
    for lines in itertools.product(range(side), repeat=2):
        widths = [axis[lines[place % 2] % len(axis)] for place, axis in enumerate(grid.widths)]
        btns = [axis[sum(lines) % side % len(axis)] for axis in grid.bottlenecks]
        found.append(structure(widths, btns, grid.kernels[lines[0] % len(grid.kernels)]))
    between = [sorted(set(more) - set(few)) or few for few, more in zip(grid.bottlenecks, grid.inner, strict=True)]
    levels = max(len(axis) for axis in between) if grid.inner != grid.bottlenecks else 0
    for level, kernel in itertools.product(range(levels), grid.kernels):
        widths = [axis[level * len(axis) // levels] for axis in grid.widths]
        found.append(structure(widths, [axis[min(level, len(axis) - 1)] for axis in between], kernel))
    return found


class NetBuilder:
    """Builds nets that share their weights with one another, never within a net: hundreds of them fit into memory.

    Args:
        device: Where they stand.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._weights: dict[Any, nn.Parameter] = {}

    def __call__(self, arch: Architecture) -> MAEDetNet:
        """The net of a structure in evaluation mode, with random weights."""
        with torch.device('meta'):
            net = MAEDetNet(arch)
        seen: defaultdict[Any, int] = defaultdict(int)
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                shape = tuple(module.weight.shape)
                key = shape, seen[shape]
                seen[shape] += 1
                if key not in self._weights:
                    weight = torch.empty(shape, device=self.device)
                    nn.init.kaiming_normal_(weight, mode='fan_in', nonlinearity='relu')
                    self._weights[key] = nn.Parameter(weight, requires_grad=False)
                module.weight = self._weights[key]
            elif isinstance(module, _BatchNorm):
                module.to_empty(device=self.device)
                module.reset_parameters()
        return net.eval()


def _parts(net: MAEDetNet) -> list[nn.Module]:
    """The modules of a net that run one after another: after each the time is taken."""
    parts: list[nn.Module] = [net.stem]
    for block in net.blocks:
        for unit in block:
            parts += [unit.conv1, unit.conv2, unit.conv3, *([unit.shortcut] if unit.shortcut else []), unit.relu]
    return parts


def _cells(grid: Grid, arch: Architecture) -> list[Cell | None]:
    """The cells of the tables that a net's parts belong to, in the order of :func:`_parts`; None between the points."""
    stem, blocks = unpack(arch)

    def cell(place: int, name: str, **genes: int) -> Cell | None:
        axes = [(grid.axis(place, axis), genes[axis]) for axis in grid.places[place][name]]
        if any(value not in axis for axis, value in axes):
            return None
        return place, name, tuple(axis.index(value) for axis, value in axes)

    cells = [cell(0, 'stem', out=stem.out)]
    for place, block in enumerate(blocks, 1):
        genes = dict(
            cin=block.cin, out=block.out, bottleneck=block.bottleneck, inner=block.bottleneck, kernel=block.kernel
        )
        first = [cell(place, name, **genes) for name in ('reduce_first', 'kernel_first', 'expand', 'shortcut', 'sum')]
        rest = [cell(place, name, **genes) for name in ('reduce', 'kernel', 'expand', 'sum')]
        cells += first + rest * (block.depth - 1)
    return cells


def _tables(
    grid: Grid,
    nets: Sequence[Architecture],
    samples: Sequence[np.ndarray],
    over_rounds: Callable[[np.ndarray], Any],
    mark: float,
) -> list[dict[str, np.ndarray]]:
    """Seconds of all cells: means over the places in nets where they stand, then what ``over_rounds`` makes of it.

    Args:
        grid: The widths.
        nets: The covering structures.
        samples: Seconds by structure, shape (rounds, parts + 2).
        over_rounds: (rounds,) → a number.
        mark: Seconds to take off a part.
    """
    found: defaultdict[Cell | None, list[np.ndarray]] = defaultdict(list)
    for arch, seconds in zip(nets, samples, strict=True):
        for cell, rounds in zip(_cells(grid, arch), seconds.T[1:-1], strict=True):
            found[cell].append(np.maximum(rounds - mark, 0))
    tables = []
    for place, pieces in enumerate(grid.places):
        tables.append({name: np.empty(grid.shape(place, axes)) for name, axes in pieces.items()})
        for name, table in tables[-1].items():
            for index in np.ndindex(table.shape):
                table[index] = over_rounds(np.mean(found[place, name, index], axis=0))
    return tables


def measure_structures(
    space: MAEDetSpace,
    grid: Grid,
    nets: Sequence[Architecture],
    references: Mapping[str, Architecture],
    image: Tensor,
    watch: Stopwatch,
    pace: Pace,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> dict[str, Any]:
    """Measures the tables of a space, whole nets to check their sums by, and nets to compare with; all take turns.

    Before each run the caches are emptied. Otherwise weights of the last run would be there or not, as the whole net
    has few of them or many, and what a convolution takes would depend on what else the net holds.

    Args:
        space: The space.
        grid: The widths to measure.
        nets: Members to check the sums by.
        references: Nets to compare with, of any space.
        image: What to run them on, shape (1, 3, h, w), on the device to measure on.
        watch: See :func:`~detnas_mm.latency.stopwatch.stopwatch`.
        pace: How thoroughly.
        progress: Wraps what is iterated over, such as a progress bar.

    Returns:
        ``grid``, ``tables_ms`` and ``iqr_ms`` (a dict of tables for each place), ``constant_ms`` (before the stem and
        after the last block), ``factor``, see :func:`~detnas_mm.latency.measure.common_factor`, that all of these were
        multiplied by, ``mark_ms`` (what it took to take the time after a part, of which the tables are free),
        ``other_work_bytes`` (read between two runs), ``references_ms`` and ``check``, see
        :func:`~detnas_mm.latency.measure.compared`; JSON-ready. Medians are those of steadied rounds, spreads those of
        the rounds as they were.
    """
    build, before = NetBuilder(image.device.type), other_work(image.device.type)
    covering = covering_structures(space, grid)
    smallest = space.smallest()  # in which marks weigh most
    things: dict[Any, TimedRun] = {'unmarked': TimedRun(build(smallest), [image], watch, before=before)}
    for key, arch in [('marked', smallest), *((('grid', number), arch) for number, arch in enumerate(covering))]:
        net = build(arch)
        things[key] = TimedRun(net, [image], watch, _parts(net), before)
    names = {('net', number): to_text(arch) for number, arch in enumerate(nets)}
    whole = dict(zip(names, nets)) | {('reference', name): arch for name, arch in references.items()}
    things |= {key: TimedRun(build(arch), [image], watch, before=before) for key, arch in whole.items()}
    samples = interleaved(things, pace, progress)
    even = steadied(samples)

    marks = np.median(even['marked'].sum(axis=1)) - np.median(even['unmarked'].sum(axis=1))
    mark = max(0.0, float(marks) / len(_cells(grid, smallest)))
    grids = [('grid', number) for number in range(len(covering))]
    around = float(np.median(np.mean([even[key][:, [0, -1]].sum(axis=1) for key in grids], axis=0)))
    tables = _tables(grid, covering, [even[key] for key in grids], np.median, mark)
    spreads = _tables(grid, covering, [samples[key] for key in grids], spread, 0.0)
    sums = StructureTables(grid, around, tables).totals(space.encode(nets))
    factor = common_factor(sums, [even[key] for key in names])

    def scaled(seconds: list[dict[str, np.ndarray]]) -> list[dict[str, Any]]:
        return [{name: milliseconds(factor * table) for name, table in own.items()} for own in seconds]

    return dict(
        grid=vars(grid),
        factor=factor,
        constant_ms=milliseconds(factor * around),
        mark_ms=milliseconds(mark),
        other_work_bytes=OTHER_WORK,
        tables_ms=scaled(tables),
        iqr_ms=scaled(spreads),
        references_ms={name: milliseconds(np.median(even['reference', name])) for name in references},
        check=compared(
            dict(zip(names.values(), (factor * sums).tolist(), strict=True)),
            {text: samples[key] for key, text in names.items()},
            {text: even[key] for key, text in names.items()},
        ),
    )
