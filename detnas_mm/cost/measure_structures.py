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

from detnas_mm.cost.measure import Stopwatch, TimedRun, compared, milliseconds
from detnas_mm.cost.structure_latency import PIECES, Grid, StructureTables
from detnas_mm.cost.timing import Pace, interleaved, spread, steadied
from detnas_mm.models import MAEDetNet
from detnas_mm.spaces import Architecture, MAEDetSpace
from detnas_mm.spaces.structure import to_text

#: Where a cell of a table stands: place, piece, index into the table.
Cell = tuple[int, str, tuple[int, ...]]


def covering_structures(space: MAEDetSpace, grid: Grid, rng: np.random.Generator) -> list[tuple[Architecture, Any]]:
    """Structures in which all pairs of widths that meet in a convolution stand together, and all kernels.

    A Latin square: widths of places in turn by its rows and its columns, bottlenecks by its symbols, so that any two
    of the three take on all pairs. Every place has an order of its own. Each block has two bottlenecks. The structures
    are made of the grid's widths and need not keep to the space's rules.

    Args:
        space: The space.
        grid: Its widths.
        rng: Draws the orders.

    Returns:
        Pairs of a structure and its levels: of every place the index of its width, and of every super-block that of its
        bottleneck and of its kernel.
    """
    side = max(len(axis) for axis in (*grid.widths, *grid.bottlenecks, grid.kernels))
    blocks = len(grid.bottlenecks)
    orders = [rng.permutation(side) for _ in range(2 * blocks + 1)]
    shifts = rng.integers(side, size=blocks)
    fixed = space.encode([space.smallest()])[0]
    found = []
    for row, column in itertools.product(range(side), repeat=2):
        lines = (row, column)
        symbol = (row + column) % side
        widths = [int(orders[place][lines[place % 2]]) % len(axis) for place, axis in enumerate(grid.widths)]
        btns = [int(orders[blocks + 1 + b][symbol]) % len(axis) for b, axis in enumerate(grid.bottlenecks)]
        kernels = [int(row + shift) % side % len(grid.kernels) for shift in shifts]
        genes = fixed.copy()
        genes[0] = grid.widths[0][widths[0]]
        genes[3::5] = [axis[i] for axis, i in zip(grid.widths[1:], widths[1:], strict=True)]
        genes[4::5] = [grid.kernels[i] for i in kernels]
        genes[6::5] = 2
        genes[7::5] = [axis[i] for axis, i in zip(grid.bottlenecks, btns, strict=True)]
        found.append((Architecture(tuple(genes.tolist())), (widths, btns, kernels)))
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


def _cells(levels: Any) -> list[Cell]:
    """The cells of the tables that a covering structure's parts belong to, in the order of :func:`_parts`."""
    widths, btns, kernels = levels
    cells: list[Cell] = [(0, 'stem', (widths[0],))]
    for place, (cin, out, btn, kernel) in enumerate(zip(widths, widths[1:], btns, kernels), 1):
        at = dict(cin=cin, out=out, bottleneck=btn, kernel=kernel)
        for names in (
            ('reduce_first', 'kernel_first', 'expand', 'shortcut', 'sum'),
            ('reduce', 'kernel', 'expand', 'sum'),
        ):
            cells += [(place, name, tuple(at[axis] for axis in PIECES[name])) for name in names]
    return cells


def _tables(
    grid: Grid, levels: Sequence[Any], samples: Sequence[np.ndarray], over_rounds: Callable[[np.ndarray], Any]
) -> list[dict[str, Any]]:
    """Milliseconds of all cells: means over the places in nets where they stand, then what ``over_rounds`` makes of it.

    Args:
        grid: The widths.
        levels: Of the covering structures.
        samples: Seconds by structure, shape (rounds, parts + 2).
        over_rounds: (rounds,) → a number.
    """
    found: defaultdict[Cell, list[np.ndarray]] = defaultdict(list)
    for own, seconds in zip(levels, samples, strict=True):
        for cell, rounds in zip(_cells(own), seconds.T[1:-1], strict=True):
            found[cell].append(rounds)
    tables = []
    for place, pieces in enumerate(grid.places):
        tables.append({name: np.empty(grid.shape(place, axes)) for name, axes in pieces.items()})
        for name, table in tables[-1].items():
            for index in np.ndindex(table.shape):
                table[index] = over_rounds(np.mean(found[place, name, index], axis=0))
    return [{name: milliseconds(table) for name, table in own.items()} for own in tables]


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

    Args:
        space: The space.
        grid: The widths to measure.
        nets: Members to check the sums by.
        references: Nets to compare with, of any space.
        image: What to run them on, shape (1, 3, h, w), on the device to measure on.
        watch: See :func:`~detnas_mm.cost.measure.stopwatch`.
        pace: How thoroughly.
        progress: Wraps what is iterated over, such as a progress bar.

    Returns:
        ``grid``, ``tables_ms`` and ``iqr_ms`` (a dict of tables for each place), ``constant_ms`` (before the stem and
        after the last block), ``references_ms`` and ``check``, see :func:`~detnas_mm.cost.measure.compared`;
        JSON-ready. Medians are those of steadied rounds, spreads those of the rounds as they were.
    """
    build = NetBuilder(image.device.type)
    covering = covering_structures(space, grid, np.random.default_rng(pace.seed))
    things: dict[Any, TimedRun] = {}
    for number, (arch, _) in enumerate(covering):
        net = build(arch)
        things['grid', number] = TimedRun(net, [image], watch, _parts(net))
    names = {('net', number): to_text(arch) for number, arch in enumerate(nets)}
    whole = dict(zip(names, nets)) | {('reference', name): arch for name, arch in references.items()}
    things |= {key: TimedRun(build(arch), [image], watch) for key, arch in whole.items()}
    samples = interleaved(things, pace, progress)
    even = steadied(samples)

    levels = [own for _, own in covering]
    grids = [('grid', number) for number in range(len(covering))]
    around = np.mean([even[key][:, [0, -1]].sum(axis=1) for key in grids], axis=0)
    found: dict[str, Any] = dict(
        grid=vars(grid),
        constant_ms=milliseconds(np.median(around)),
        tables_ms=_tables(grid, levels, [even[key] for key in grids], np.median),
        iqr_ms=_tables(grid, levels, [samples[key] for key in grids], spread),
        references_ms={name: milliseconds(np.median(even['reference', name])) for name in references},
    )
    tables = StructureTables(grid, found['constant_ms'], found['tables_ms'])
    foretold = tables.totals(space.encode(nets)) / 1000
    found['check'] = compared(
        dict(zip(names.values(), foretold.tolist(), strict=True)),
        {text: samples[key] for key, text in names.items()},
        {text: even[key] for key, text in names.items()},
    )
    return found
