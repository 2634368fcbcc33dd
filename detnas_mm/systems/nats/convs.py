"""Table of the convolutions whose dilations are searched, and the text format of their dilations."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from detnas_mm.errors import DetNASError

#: A genotype: dilations (d_h, d_w), which multiply the plain convolution's own.
Genotype = tuple[int, int]

_RUN = re.compile(r'(?:(\d+):)?(\d+)x(\d+)')


class SearchedConv(NamedTuple):
    """One 3×3 convolution of a plain backbone.

    Attributes:
        name: Name of the module in the backbone, such as ``'layer2.0.conv2'``.
        channels: Number of output channels.
        groups: Number of conv-groups (``nn.Conv2d.groups``): 1 in a dense convolution, ``channels`` in a depthwise one.
        stage: Name of its stage, such as ``'layer2'``.
        stride: Stride of its input map with respect to the image, in pixels.
        dilation: Its dilation in the plain backbone, which genotypes multiply.
    """

    name: str
    channels: int
    groups: int
    stage: str
    stride: int = 1
    dilation: int = 1

    @property
    def unit(self) -> int:
        """Number of output channels that must share a dilation: 1, or those of a conv-group."""
        return 1 if self.groups == 1 else self.channels // self.groups

    @property
    def units(self) -> int:
        """Number of units."""
        return self.channels // self.unit


def split_units(units: int, groups: int) -> tuple[int, ...]:
    """Returns the sizes, in units, of ``min(groups, units)`` groups that differ by one unit at most."""
    groups = min(groups, units)
    size, larger = divmod(units, groups)
    return (size + 1,) * larger + (size,) * (groups - larger)


def genotype_text(genotype: Genotype) -> str:
    """Returns ``'2x3'`` for (2, 3)."""
    return f'{genotype[0]}x{genotype[1]}'


def runs_text(dilations: Iterable[Genotype]) -> str:
    """Returns the dilations of one convolution as run lengths, such as ``'42:1x1+5:1x2+1x3'``.

    Args:
        dilations: One genotype per output channel, in order.
    """
    runs = []
    for genotype, run in itertools.groupby(dilations):
        count = sum(1 for _ in run)
        runs.append(genotype_text(genotype) if count == 1 else f'{count}:{genotype_text(genotype)}')
    return '+'.join(runs)


def read_runs(text: str, conv: SearchedConv) -> list[Genotype]:
    """Returns one genotype per output channel: the inverse of :func:`runs_text`. ``'2x2'`` means all channels.

    Raises:
        DetNASError: If the text cannot be read, or its number of channels is not the convolution's; names the part.
    """
    dilations: list[Genotype] = []
    if '+' not in text and ':' not in text:  # one for all channels
        text = f'{conv.channels}:{text}'
    for part in text.split('+'):
        match = _RUN.fullmatch(part)
        if match is None or not all(int(number) for number in match.groups('1')):
            raise DetNASError(
                f'{conv.name}: cannot read {part!r} as CHANNELS:HEIGHTxWIDTH. Write run lengths such as 8:1x1+4:2x3, '
                f'whose numbers of channels add up to {conv.channels}.'
            )
        count, height, width = (int(number) for number in match.groups('1'))
        if count > conv.channels - len(dilations):
            raise DetNASError(f'{conv.name} has {conv.channels} channels; {text!r:.200} gives more.')
        dilations += [(height, width)] * count
    if len(dilations) != conv.channels:
        raise DetNASError(f'{conv.name} has {conv.channels} channels; {text!r:.200} gives {len(dilations)}.')
    return dilations


def read_dilations(text: str, convs: Sequence[SearchedConv]) -> list[list[Genotype]]:
    """Returns, for every convolution, one genotype per output channel.

    Args:
        text: Run lengths of every convolution in order, separated by ``'|'``; see :func:`runs_text`. A single genotype
            such as ``'1x1'`` means all channels of all convolutions.
        convs: The table of convolutions.

    Raises:
        DetNASError: If the text does not fit the table; names the convolution.
    """
    parts = re.sub(r'\s', '', text).split('|')
    if len(parts) == 1 and ':' not in parts[0] and '+' not in parts[0]:
        parts *= len(convs)
    if len(parts) != len(convs):
        raise DetNASError(
            f'{text!r:.200} gives dilations of {len(parts)} convolutions, separated by "|"; the backbone has '
            f'{len(convs)}: {convs[0].name} … {convs[-1].name}.'
        )
    return [read_runs(part, conv) for part, conv in zip(parts, convs, strict=True)]


def by_unit(dilations: Sequence[Genotype], conv: SearchedConv) -> list[Genotype]:
    """Returns one genotype per unit.

    Args:
        dilations: One genotype per output channel.
        conv: The convolution.

    Raises:
        DetNASError: If channels of one conv-group differ.
    """
    units = [dilations[first : first + conv.unit] for first in range(0, conv.channels, conv.unit)]
    for number, unit in enumerate(units):
        if len(set(unit)) > 1:
            raise DetNASError(
                f'{conv.name}: the {conv.unit} channels of conv-group {number} read the same input and must have one '
                f'dilation; got {runs_text(unit)}.'
            )
    return [unit[0] for unit in units]
