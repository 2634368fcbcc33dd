"""The ShuffleNetV2-like search space of DetNAS (NeurIPS 2019, section 3.1 and table 1)."""

from __future__ import annotations

import itertools
import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from detnas_mm.errors import DetNASError
from detnas_mm.registry import SPACES
from detnas_mm.spaces.architecture import Architecture
from detnas_mm.spaces.backbones import replace_backbone
from detnas_mm.spaces.choice import ChoiceSpace
from detnas_mm.spaces.conv import Conv
from detnas_mm.spaces.images import agreed_channels, unless_rgb

#: The choices of a block; architectures are written with the index into this tuple.
OPS = ('shuffle_3x3', 'shuffle_5x5', 'shuffle_7x7', 'xception_3x3')

#: Channels of the last 1x1 convolution that classification adds (paper, table 1).
LAST_CHANNELS = 1024

#: Table 1 of the paper; ``large-3.8g`` is the widened large space of its 3.8G network.
PRESETS: dict[str, dict[str, Any]] = {
    'small': dict(stem=16, channels=(64, 160, 320, 640), blocks=(4, 4, 8, 4)),
    'large': dict(stem=48, channels=(96, 240, 480, 960), blocks=(8, 8, 16, 8)),
    'large-3.8g': dict(stem=72, channels=(172, 432, 864, 1728), blocks=(8, 8, 16, 8), last=1728),
}


@dataclass(frozen=True)
class Block:
    """Position, channels and stride of a block."""

    index: int
    stage: int
    cin: int
    cout: int
    stride: int

    @property
    def mid(self) -> int:
        """Inner channels of the main branch: half of the block's output channels (section 3.1)."""
        return self.cout // 2

    @property
    def main_channels(self) -> tuple[int, int]:
        """(in, out) channels of the main branch: all of the input if the stride is 2, else half."""
        if self.stride == 2:
            return self.cin, self.cout - self.cin
        return self.cin // 2, self.cout // 2


@SPACES.register_module()
class DetNASSpace(ChoiceSpace):
    """Search space of DetNAS: one of four operations in every block; channels and depth are fixed.

    Args:
        space: ``'small'`` (20 blocks), ``'large'`` (40), ``'large-3.8g'`` (40, wider), or a mapping with
            ``stem`` (channels of the first convolution), ``channels`` and ``blocks`` (one entry per stage), and
            optionally ``last`` (channels of the last convolution, for classification; default 1024) and
            ``in_channels``.
        in_channels: Channels of the images, such as 1 for grey ones. Defaults to that of ``space``, else 3.

    Raises:
        ValueError: If the preset is unknown or a number is invalid.
    """

    latency_subject = 'detnas_mm.DetNASLatencySubject'
    in_channels: int

    def __init__(self, space: str | Mapping[str, Any] | DetNASSpace = 'small', in_channels: int | None = None) -> None:
        if isinstance(space, DetNASSpace):
            space = space.spec()
        if isinstance(space, str):
            if space not in PRESETS:
                raise DetNASError(
                    f'Unknown DetNAS space {space!r}. Choose one of {sorted(PRESETS)} or give '
                    f'dict(stem=16, channels=(64, 160, 320, 640), blocks=(4, 4, 8, 4)).'
                )
            space = PRESETS[space]
        if not isinstance(space, Mapping):
            raise DetNASError(
                f'A DetNAS space is one of {sorted(PRESETS)} or dict(stem=…, channels=(…), blocks=(…)); got {space!r}.'
            )
        self.stem, self.channels, self.depths, self.last_channels = _checked(space)
        self.in_channels = agreed_channels(in_channels, space.get('in_channels'))

    # -- properties ---------------------------------------------------------------------------------------------

    def spec(self) -> dict[str, Any]:
        return self._blocks_spec() | unless_rgb(self.in_channels)

    def _blocks_spec(self) -> dict[str, Any]:
        return dict(stem=self.stem, channels=list(self.channels), blocks=list(self.depths), last=self.last_channels)

    @property
    def name(self) -> str:
        """Name of the preset (regardless of ``in_channels``), or ``'custom'``."""
        spec = self._blocks_spec()
        for name in PRESETS:
            if DetNASSpace(name).spec() == spec:
                return name
        return 'custom'

    def __repr__(self) -> str:
        return f'DetNASSpace({self.name!r}, {self.spec()})'

    @property
    def num_blocks(self) -> int:
        """Number of searched blocks."""
        return sum(self.depths)

    @property
    def num_choices(self) -> int:
        """Number of operations to choose from in every block."""
        return len(OPS)

    @property
    def choices(self) -> tuple[int, ...]:
        return (self.num_choices,) * self.num_blocks

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks in order; the first of a stage has stride 2."""
        blocks: list[Block] = []
        cin = self.stem
        for stage, (cout, depth) in enumerate(zip(self.channels, self.depths, strict=True)):
            for i in range(depth):
                blocks.append(Block(len(blocks), stage, cin, cout, 2 if i == 0 else 1))
                cin = cout
        return tuple(blocks)

    @property
    def stem_conv(self) -> Conv:
        """The first convolution, which has a bias."""
        return Conv(self.in_channels, self.stem, 3, 2, bias=True)

    @property
    def last_conv(self) -> Conv:
        """The 1x1 convolution that classification adds, with a bias."""
        return Conv(self.channels[-1], self.last_channels, bias=True)

    def convs(self, block: Block, choice: int) -> tuple[tuple[Conv, ...], tuple[Conv, ...]]:
        """Returns the convolutions of one choice in one block.

        Args:
            block: A member of :attr:`blocks`.
            choice: Index into :data:`OPS`.

        Returns:
            Convolutions of the main branch and of the projection branch (empty at stride 1), in order.
        """
        cin, cout = block.main_channels
        kernel = (3, 5, 7, 3)[choice]
        main: tuple[Conv, ...]
        if OPS[choice].startswith('xception'):
            widths = (cin, block.mid, block.mid, cout)
            pairs = [
                (Conv(a, a, 3, block.stride if i == 0 else 1, groups=a), Conv(a, b))
                for i, (a, b) in enumerate(itertools.pairwise(widths))
            ]
            main = tuple(conv for pair in pairs for conv in pair)
        else:
            mid = block.mid
            main = (Conv(cin, mid), Conv(mid, mid, kernel, block.stride, groups=mid), Conv(mid, cout))
        if block.stride == 1:
            return main, ()
        return main, (Conv(block.cin, block.cin, kernel, 2, groups=block.cin), Conv(block.cin, block.cin))

    # -- reading and writing ------------------------------------------------------------------------------------

    def parse(self, value: str | Sequence[int] | Architecture) -> Architecture:
        """Reads ``'2120|2112|33130031|3132'``, a sequence of ids (flat), or an :class:`Architecture`.

        Raises:
            ValueError: If the number of ids or an id is not that of this space.
        """
        genes: Sequence[Any]
        if isinstance(value, str):
            text = re.sub(r'\s', '', value)
            parts = text.split('|')
            if not re.fullmatch(r'[0-9|]+', text):
                raise DetNASError(
                    f'Cannot read {value!r} as an architecture: write one digit per block, '
                    f'{_ops_text()}, stages separated by "|", such as {self._example()!r}.'
                )
            if len(parts) > 1 and tuple(map(len, parts)) != self.depths:
                raise DetNASError(
                    f'{value!r} has stages of {tuple(map(len, parts))} blocks; this space has {self.depths}, '
                    f'as in {self._example()!r}.'
                )
            genes = [int(digit) for part in parts for digit in part]
        elif isinstance(value, Architecture):
            genes = value.genes
        elif isinstance(value, (Sequence, np.ndarray)):
            genes = list(value)
        else:
            raise DetNASError(
                f'An architecture is a text such as {self._example()!r} or a sequence of {self.num_blocks} ids; '
                f'got {value!r} of type {type(value).__name__}.'
            )
        if len(genes) != self.num_blocks:
            raise DetNASError(
                f'{value!r} has {len(genes)} blocks; this space has {self.num_blocks} '
                f'({"+".join(map(str, self.depths))}), as in {self._example()!r}.'
            )
        for position, gene in enumerate(genes):
            if isinstance(gene, bool) or not isinstance(gene, numbers.Integral) or int(gene) not in range(len(OPS)):
                raise DetNASError(f'Block {position} of {value!r} is {gene!r}; allowed are {_ops_text()}.')
        return Architecture(tuple(int(gene) for gene in genes))

    def describe(self, arch: Architecture) -> str:
        digits = iter(map(str, arch.genes))
        return '|'.join(''.join(next(digits) for _ in range(depth)) for depth in self.depths)

    # -- building -----------------------------------------------------------------------------------------------

    def configure(self, cfg: Mapping[str, Any], arch: Architecture) -> dict[str, Any]:
        """See :meth:`SearchSpace.configure`: a :class:`DetNASNet` with all its settings.

        The config's backbone may be a supernet or a net of any DetNAS space, or any other backbone.
        """
        defaults: dict[str, Any] = dict(
            out_indices=tuple(range(len(self.channels))), norm_cfg=dict(type='BN'), channel_split='shuffle',
            with_last_conv=False, frozen_stages=-1, norm_eval=False, with_cp=False,
        )  # fmt: skip
        own = (cfg.get('model') or {}).get('backbone') or {}
        settings = defaults | {name: own[name] for name in defaults if own.get(name) is not None}
        indices = settings['out_indices']
        settings['out_indices'] = (indices,) if isinstance(indices, int) else tuple(indices)
        backbone = dict(
            type='detnas_mm.DetNASNet',
            arch=self.describe(self.parse(arch)),
            space=self.name if self.name != 'custom' else self._blocks_spec(),
            **unless_rgb(self.in_channels),
            **settings,
        )
        last = self.last_channels if settings['with_last_conv'] else None
        return replace_backbone(cfg, backbone, self.channels, ('conv_cfg', 'init_cfg'), last)

    def _example(self) -> str:
        return self.describe(Architecture((0,) * self.num_blocks))


def _ops_text() -> str:
    return ', '.join(f'{i} ({op})' for i, op in enumerate(OPS))


def _checked(space: Mapping[str, Any]) -> tuple[int, tuple[int, ...], tuple[int, ...], int]:
    """Validates a space given as a mapping; returns (stem, channels, blocks, last)."""
    space = dict(space)
    unknown = set(space) - {'stem', 'channels', 'blocks', 'last', 'in_channels'}
    missing = {'stem', 'channels', 'blocks'} - set(space)
    if unknown or missing:
        raise DetNASError(
            f'A DetNAS space is dict(stem=…, channels=(…), blocks=(…), last=1024, in_channels=3); '
            f'unknown: {sorted(unknown)}, missing: {sorted(missing)}.'
        )
    lists = {}
    for key in ('channels', 'blocks'):
        if isinstance(space[key], (str, bytes)) or not isinstance(space[key], Sequence) or not space[key]:
            raise DetNASError(f'{key!r} must be a sequence with one integer per stage; got {space[key]!r}.')
        lists[key] = tuple(space[key])
    channels, blocks = lists['channels'], lists['blocks']
    if len(channels) != len(blocks):
        raise DetNASError(
            f'channels {channels} has {len(channels)} stages, blocks {blocks} has {len(blocks)}: give both one entry '
            f'per stage.'
        )
    stem, last = space['stem'], space.get('last', LAST_CHANNELS)
    for key, value in [('stem', stem), ('last', last), *(('channels', c) for c in channels)]:
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
            raise DetNASError(f'{key!r} must be positive integers; got {value!r}.')
    for value in blocks:
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
            raise DetNASError(f"'blocks' must be positive integers; got {value!r}.")
    previous = stem
    for cout in channels:
        if cout % 2:
            raise DetNASError(f'channels must be even, since a block splits them in halves; got {cout}.')
        if cout <= previous:
            raise DetNASError(
                f'channels must grow from stage to stage, since a stride-2 block concatenates its input to new '
                f'channels; got {cout} after {previous}.'
            )
        previous = cout
    return int(stem), tuple(map(int, channels)), tuple(map(int, blocks)), int(last)
