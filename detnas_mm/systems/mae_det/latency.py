"""Latency measurement of structures: every convolution over a grid of widths. Imports torch."""

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

#: Key of a table cell: place, piece, index into the table.
Cell = tuple[int, str, tuple[int, ...]]
#: Bottlenecks per block of the measured nets. The second loads the code of its convolutions into the caches, the third
#: finds it there; tables contain the mean of both.
DEPTH = 3
#: Random members drawn before an error is raised.
MAX_ATTEMPTS = 1_000_000


@LATENCY_SUBJECTS.register_module()
class MAEDetLatencySubject(LatencySubject):
    """Measures every convolution of every super-block, for :class:`StructureLatency`.

    CPU caches are flushed before each run. Otherwise the latency of a convolution would depend on the size of the whole
    net: weights from the run before stay in the caches only in small nets.

    Takes the arguments of :class:`LatencySubject`; ``grid`` is the number of widths measured per place, at least 2, by
    default 5. About ``grid`` squared nets are measured.
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
        self.smallest = self.space.smallest()  # the overhead of taking the time is largest in it, relatively
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
        """See :meth:`LatencySubject.cells`: returns a dict for each place of the grid, averaged over the nets.

        ``mark_ms`` is the overhead of taking the time after a part; it is subtracted.
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
    """Draws members with at most the multiply-adds of ResNet-50, the usual budget of searches.

    Raises:
        UnmeetableConstraint: If too few of the drawn members have.
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
            f'Only {len(found)} of {drawn:,} random members of {space!r} have at most the {limit:,} multiply-adds of '
            f'ResNet-50. Whole nets of about that size verify the table: use a space that contains them.'
        )
    return list(found)[:count]


def covering_structures(space: MAEDetSpace, grid: Grid) -> list[Architecture]:
    """Builds structures that together contain every cell of every table.

    First a Latin square: rows and columns alternately select the widths of places, symbols the bottlenecks, so that any
    two of the three take on all pairs. Rows, columns and symbols are ordered from narrow to wide at all places: narrow
    convolutions are measured in narrow nets and wide ones in wide nets, as they occur in real nets. Then, for every
    kernel, the inner widths between those of the square, in blocks of matching width. Each block has :data:`DEPTH`
    bottlenecks. Only the grid limits the structures, not the space's rules.

    Args:
        space: The space.
        grid: The measured widths.
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
    """Builds nets that share weights between nets, never within a net, so that hundreds of them fit into memory.

    Args:
        device: Device of the nets.
        in_channels: Channels of the images.
    """

    def __init__(self, device: str, in_channels: int = RGB) -> None:
        self.device = device
        self.in_channels = in_channels
        self._weights: dict[Any, nn.Parameter] = {}

    def __call__(self, arch: Architecture) -> MAEDetNet:
        """Builds the net of a structure in evaluation mode, with random weights."""
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
    """Returns the modules of a net in the order of execution; the time is taken after each."""
    parts: list[nn.Module] = [net.stem]
    for block in net.blocks:
        for unit in block:
            parts += [unit.conv1, unit.conv2, unit.conv3, *([unit.shortcut] if unit.shortcut else []), unit.relu]
    return parts


def _cells(grid: Grid, arch: Architecture) -> list[Cell | None]:
    """Returns the table cell of every part, in the order of :func:`_parts`; None for parts that are in no table."""
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
