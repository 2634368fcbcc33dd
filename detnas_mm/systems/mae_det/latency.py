"""What is measured of structures: their convolutions, over a grid of widths. Imports torch."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from detnas_mm.latency.inputs import Run
from detnas_mm.latency.subject import LatencySubject
from detnas_mm.registry import LATENCY_SUBJECTS
from detnas_mm.search import UnmeetableConstraint
from detnas_mm.spaces import Architecture
from detnas_mm.spaces.images import RGB
from detnas_mm.systems.mae_det.counts import StructureMacs
from detnas_mm.systems.mae_det.grid import Grid
from detnas_mm.systems.mae_det.model import MAEDetNet
from detnas_mm.systems.mae_det.space import MAEDetSpace
from detnas_mm.systems.mae_det.structure import RESNET50, unpack
from detnas_mm.systems.mae_det.structure_latency import StructureTables

#: Where a cell of a table stands: place, piece, index into the table.
Cell = tuple[int, str, tuple[int, ...]]
#: Bottlenecks of every block of the nets that the tables are measured in. The code of their convolutions comes into the
#: caches with the second, and is there for the third: tables hold the mean of both.
DEPTH = 3
#: Random members drawn before giving up.
MAX_ATTEMPTS = 1_000_000


@LATENCY_SUBJECTS.register_module()
class MAEDetLatencySubject(LatencySubject):
    """Every convolution of every super-block: what :class:`StructureLatency` reads.

    Before each run the caches are emptied. Otherwise weights of the last run would be there or not, as the whole net
    has few of them or many, and what a convolution takes would depend on what else the net holds.

    Takes the arguments of :class:`LatencySubject`; ``grid`` is how many widths of a place are measured, in so many nets
    squared, 2 or more, by default 5.
    """

    has_grid = True
    references = {'resnet50': dict(type='detnas_mm.MAEDetNet', arch=RESNET50)}
    other_work = 128 * 2**20
    table_key = 'tables_ms'
    model_name = 'MAEDetNet'

    def setup(self) -> None:
        """See :meth:`LatencySubject.setup`."""
        self.grid = Grid.of(self.space, 5 if self.grid is None else self.grid)
        self.settings = dict(grid=vars(self.grid))
        self.covering = covering_structures(self.space, self.grid)
        self.smallest = self.space.smallest()  # in which marks weigh most
        self._build = NetBuilder(self.inputs.device, self.space.in_channels)

    def nets_to_check(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        return nets_to_check(self.space, self.inputs.size, count, rng)

    def net(self, arch: Architecture) -> Run:
        return self._build(arch)

    def table_nets(self, rng: np.random.Generator) -> dict[Hashable, tuple[Run, Sequence[nn.Module]]]:
        nets: dict[Hashable, Any] = {number: self._build(arch) for number, arch in enumerate(self.covering)}
        nets['marked'] = self._build(self.smallest)
        return {'unmarked': (self._build(self.smallest), ())} | {key: (net, _parts(net)) for key, net in nets.items()}

    def cells(self, samples: Mapping[Hashable, np.ndarray]) -> dict[str, Any]:
        """See :meth:`LatencySubject.cells`: means over where they stand in nets, a dict for each place of the grid.

        ``mark_ms`` is what it took to take the time after a part, of which they are free.
        """
        marks = np.median(samples['marked'].sum(axis=1)) - np.median(samples['unmarked'].sum(axis=1))
        mark = max(0.0, float(marks) / len(_cells(self.grid, self.smallest)))
        nets = [samples[number] for number in range(len(self.covering))]
        found: defaultdict[Cell | None, list[np.ndarray]] = defaultdict(list)
        for arch, seconds in zip(self.covering, nets, strict=True):
            for cell, rounds in zip(_cells(self.grid, arch), seconds.T[1:-1], strict=True):
                found[cell].append(np.maximum(rounds - mark, 0))
        around = np.mean([seconds[:, [0, -1]].sum(axis=1) for seconds in nets], axis=0)
        tables: list[dict[str, np.ndarray]] = []
        for place, pieces in enumerate(self.grid.places):
            tables.append({})
            for name, axes in pieces.items():
                shape = self.grid.shape(place, axes)
                means = [np.mean(found[place, name, index], axis=0) for index in np.ndindex(shape)]
                tables[-1][name] = np.stack(means, axis=1).reshape(len(around), *shape)
        return dict(table=tables, constant=dict(around=around), mark_ms=np.full(len(around), mark))

    def sums(self, cells: Mapping[str, Any], archs: Sequence[Architecture]) -> np.ndarray:
        tables = StructureTables(self.grid, cells['constant']['around'], cells['table'])
        return tables.totals(self.space.encode(archs))


def nets_to_check(
    space: MAEDetSpace, input_size: tuple[int, int], count: int, rng: np.random.Generator
) -> list[Architecture]:
    """Random members with at most the multiply-adds of ResNet-50, which are those that searches end at.

    Raises:
        UnmeetableConstraint: If there are hardly any.
    """
    macs = StructureMacs(space, input_size)
    limit = macs.total(RESNET50)
    found: dict[Architecture, None] = {}
    drawn = 0
    while len(found) < min(count, space.size) and drawn < MAX_ATTEMPTS:
        codes = space.sample_codes(rng, 10_000)
        drawn += len(codes)
        found |= dict.fromkeys(space.decode(codes[macs.totals(codes) <= limit]))
    if len(found) < 2:
        raise UnmeetableConstraint(
            f'Of {drawn:,} random members of {space!r} {len(found)} have at most the {limit:,} multiply-adds of '
            f'ResNet-50; the check needs nets of about that size.'
        )
    return list(found)[:count]


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
        in_channels: Channels of the images.
    """

    def __init__(self, device: str, in_channels: int = RGB) -> None:
        self.device = device
        self.in_channels = in_channels
        self._weights: dict[Any, nn.Parameter] = {}

    def __call__(self, arch: Architecture) -> MAEDetNet:
        """The net of a structure in evaluation mode, with random weights."""
        with torch.device('meta'):
            net = MAEDetNet(arch, in_channels=self.in_channels)
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
