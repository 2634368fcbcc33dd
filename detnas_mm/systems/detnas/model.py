"""Backbones of DetNAS: the supernet and its subnets."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from detnas_mm import zoo
from detnas_mm.config_types import is_other
from detnas_mm.errors import DetNASError
from detnas_mm.models.backbone import Backbone
from detnas_mm.models.layers import checked_conv, checked_norm, conv_norm
from detnas_mm.models.supernet import Segment, Supernet
from detnas_mm.registry import MODELS
from detnas_mm.spaces import Architecture
from detnas_mm.systems.detnas.shuffle_unit import CHANNEL_SPLITS, ShuffleUnit
from detnas_mm.systems.detnas.space import DetNASSpace

#: Keys of the supernet's units: block, choice, remainder.
_UNIT = re.compile(r'blocks\.(\d+)\.(\d+)\.(.+)')


class _DetNASBackbone(Backbone):
    """Common base of supernet and subnet: stem, blocks, last convolution, initialisation."""

    def __init__(
        self,
        space: DetNASSpace,
        out_indices: Sequence[int] | None,
        norm_cfg: Mapping[str, Any] | None,
        channel_split: str,
        with_last_conv: bool,
        frozen_stages: int,
        norm_eval: bool,
        with_cp: bool,
        min_loaded: float,
        init_cfg: dict | list[dict] | None,
        conv_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            len(space.channels), out_indices, frozen_stages, norm_eval, with_cp, min_loaded, init_cfg,
            may_be_empty=with_last_conv, in_channels=space.in_channels,
        )  # fmt: skip
        if channel_split not in CHANNEL_SPLITS:
            raise DetNASError(f'channel_split must be one of {CHANNEL_SPLITS}; got {channel_split!r}.')
        self.space = space
        self.channel_split = channel_split
        self.norm_cfg = norm = checked_norm(norm_cfg)
        self.conv_cfg = checked_conv(conv_cfg)
        self.stem = conv_norm(space.stem_conv, norm, True, self.conv_cfg)
        self.blocks = nn.ModuleList(self._make_block(block.index, norm) for block in space.blocks)
        self._stage_ends = {sum(space.depths[: s + 1]) - 1: s for s in range(self.num_stages)}
        self.last_conv = None
        if with_last_conv:
            self.last_conv = conv_norm(space.last_conv, norm, True, self.conv_cfg)
            # Drops whole channels, as in the authors' code: dropping pixels would hardly change the average pool.
            self.last_conv.add_module('dropout', nn.Dropout2d(0.2))
        self._freeze()

    @abstractmethod
    def _make_block(self, index: int, norm_cfg: dict) -> nn.Module:
        """Returns the module at one position."""

    def _make_unit(self, index: int, choice: int, norm_cfg: dict) -> ShuffleUnit:
        block = self.space.blocks[index]
        convs = self.space.convs(block, choice)
        return ShuffleUnit(*convs, norm_cfg, self.channel_split, self.with_cp, self.conv_cfg)

    def _segments(self, blocks: Iterable[tuple[Hashable, nn.Module]]) -> list[Segment]:
        """Returns the segments of the backbone in order: the stem, these blocks (key, module), the last convolution."""
        parts = [Segment('stem', self.stem, False)]
        for index, (key, block) in enumerate(blocks):
            parts.append(Segment(key, block, self._stage_ends.get(index) in self.out_indices))
        if self.last_conv is not None:
            parts.append(Segment('last', self.last_conv, True))
        return parts

    @staticmethod
    def _run(x: Tensor, segments: list[Segment]) -> tuple[Tensor, ...]:
        outs = []
        for _, module, keep in segments:
            x = module(x)
            if keep:
                outs.append(x)
        return tuple(outs)

    def init_weights(self) -> None:
        """Initialises weights as the authors' code does, then applies ``init_cfg``."""
        for name, module in self.named_modules() if not self.is_init else ():
            if isinstance(module, nn.Conv2d):
                std = 0.01 if name.startswith('stem') else 1.0 / module.weight.shape[1]
                nn.init.normal_(module.weight, 0, std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, (_BatchNorm, nn.GroupNorm)):
                nn.init.ones_(module.weight)
                nn.init.constant_(module.bias, 1e-4)
        super().init_weights()

    def stage_modules(self, stages: int) -> list[nn.Module]:
        """See :meth:`Backbone.stage_modules`."""
        return [
            self.stem, *(b for b, place in zip(self.blocks, self.space.blocks, strict=True) if place.stage < stages)
        ]  # fmt: skip


@MODELS.register_module()
class DetNASSupernet(_DetNASBackbone, Supernet):
    """Supernet of a DetNAS space: all nets of the space in one backbone; ``forward`` runs only the active path.

    Args:
        space: ``'small'``, ``'large'``, ``'large-3.8g'``, a mapping with ``stem``, ``channels`` and ``blocks``, or a
            :class:`~detnas_mm.systems.detnas.DetNASSpace`.
        out_indices: Stages whose outputs are returned: 0–3 at strides 4, 8, 16, 32. Defaults to all.
        norm_cfg: mmcv's norm config. Defaults to ``dict(type='BN')``.
        channel_split: How stride-1 blocks split their channels: ``'shuffle'`` as the authors' supernets (default), or
            ``'even_odd'`` as their released nets.
        with_last_conv: Adds the 1x1 convolution and channel dropout (0.2) for classification; its output is returned
            last.
        frozen_stages: -1 freezes nothing, 0 the stem, i the stem and the first i stages.
        norm_eval: Keep BN in evaluation mode while training.
        with_cp: Use activation checkpointing inside blocks, which saves memory and costs time.
        min_loaded: Share of the backbone's tensors that a checkpoint must contain, else loading fails. Defaults to 1.
        init_cfg: mmengine's ``init_cfg``. Defaults to the authors' initialisation.
        aligned_init: Initialise the choices of a block to the same function as far as their shapes allow, see
            :meth:`align_choices`. Not in the paper; for supernets that are trained for minutes instead of GPU-days.
        in_channels: Channels of the images, such as 1 for grey ones. Defaults to that of ``space``, else 3.

    Raises:
        ValueError: If an argument is invalid; names the value and what is allowed.
    """

    space: DetNASSpace

    def __init__(
        self,
        space: str | Mapping[str, Any] | DetNASSpace = 'small',
        out_indices: Sequence[int] | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        channel_split: str = 'shuffle',
        with_last_conv: bool = False,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        min_loaded: float = 1.0,
        init_cfg: dict | list[dict] | None = None,
        aligned_init: bool = False,
        in_channels: int | None = None,
    ) -> None:
        self._aligned_init = aligned_init
        super().__init__(
            DetNASSpace(space, in_channels), out_indices, norm_cfg, channel_split, with_last_conv, frozen_stages,
            norm_eval, with_cp, min_loaded, init_cfg,
        )  # fmt: skip

    def _make_block(self, index: int, norm_cfg: dict) -> nn.Module:
        return nn.ModuleList(self._make_unit(index, c, norm_cfg) for c in range(self.space.num_choices))

    def init_weights(self) -> None:
        """Initialises weights; ``aligned_init`` then aligns the choices, unless ``init_cfg`` loads a checkpoint."""
        fresh = not self.is_init
        super().init_weights()
        cfgs = self.init_cfg if isinstance(self.init_cfg, list) else [self.init_cfg or {}]
        if fresh and self._aligned_init and not any(is_other(cfg, 'Pretrained') for cfg in cfgs):
            self.align_choices()

    @torch.no_grad()
    def align_choices(self) -> None:
        """Copies the first choice's convolutions into the other choices of its block.

        Larger kernels get the 3x3 kernel in their centre and zeros around it, so that the three shuffle choices compute
        the same function before training. Of Xception only the projection is copied: its main branch has other shapes.
        """
        for choices in self.blocks:
            for choice in list(choices)[1:]:
                for own, first in zip((choice.main, choice.proj), (choices[0].main, choices[0].proj), strict=True):
                    if own is None or len(own) != len(first):
                        continue
                    for layer, source in zip(own, first, strict=True):
                        margin = (layer.conv.kernel_size[0] - source.conv.kernel_size[0]) // 2
                        layer.conv.weight.copy_(nn.functional.pad(source.conv.weight, [margin] * 4))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Runs the active path.

        Args:
            x: Images of shape (n, in_channels, h, w).

        Returns:
            Features of the stages in ``out_indices``, shape (n, c, h / stride, w / stride), rounded up.

        Raises:
            DetNASError: If no path is set.
        """
        return self._run(x, self.segments(self._require_path()))

    def segments(self, path: Architecture) -> list[Segment]:
        pairs = zip(self.blocks, path.genes, strict=True)
        return self._segments((choice, cast(nn.ModuleList, choices)[choice]) for choices, choice in pairs)

    @staticmethod
    def subnet_key(key: str, path: Architecture) -> str | None:
        found = _UNIT.fullmatch(key)
        if not found:
            return key
        block, choice, rest = int(found[1]), int(found[2]), found[3]
        return f'blocks.{block}.{rest}' if path.genes[block] == choice else None

    @staticmethod
    def has_path(keys: Collection[str], path: Architecture) -> bool:
        """See :meth:`Supernet.has_path`: the path must have one valid choice for every block."""
        units = {(int(found[1]), int(found[2])) for key in keys if (found := _UNIT.fullmatch(key))}
        return set(enumerate(path.genes)) <= units and len({block for block, _ in units}) == len(path.genes)


@MODELS.register_module()
class DetNASNet(_DetNASBackbone):
    """Subnet of a DetNAS space: an ordinary backbone without choices.

    Args:
        arch: A published name (see :mod:`detnas_mm.zoo`), a text such as ``'2120|2112|33130031|3132'``, or a
            sequence of ids (0: shuffle 3x3, 1: shuffle 5x5, 2: shuffle 7x7, 3: Xception 3x3).
        space: As for :class:`DetNASSupernet`. Defaults to the published net's own, else ``'small'``.
        channel_split: Defaults to ``'even_odd'`` for published names and to ``'shuffle'`` otherwise, so that a subnet
            has the same outputs as the supernet with that path.
        out_indices: As for :class:`DetNASSupernet`, like all that follow.
        norm_cfg: See there.
        with_last_conv: See there.
        frozen_stages: See there.
        norm_eval: See there.
        with_cp: See there.
        min_loaded: See there.
        init_cfg: See there.
        in_channels: See there; published nets only take 3 channels.
        conv_cfg: mmcv's config of convolutions, such as ``dict(type='detnas_mm.StandardizedConv2d')``, which does not
            change depthwise ones. Defaults to ``nn.Conv2d``.

    Raises:
        ValueError: If the architecture or another argument is invalid.
    """

    def __init__(
        self,
        arch: str | Sequence[int] | Architecture,
        space: str | Mapping[str, Any] | DetNASSpace | None = None,
        out_indices: Sequence[int] | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        channel_split: str | None = None,
        with_last_conv: bool = False,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        min_loaded: float = 1.0,
        init_cfg: dict | list[dict] | None = None,
        in_channels: int | None = None,
        conv_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        published = None
        if isinstance(arch, str) and any(c.isalpha() for c in arch):
            published = zoo.get(arch, DetNASSpace)
            arch = published.arch
            space = published.space if space is None else space
            channel_split = channel_split or published.channel_split
        space = DetNASSpace('small' if space is None else space, in_channels)
        if published is not None:
            published.check_channels(space.in_channels)
        self._choices = space.parse(arch).genes
        super().__init__(
            space, out_indices, norm_cfg, channel_split or 'shuffle', with_last_conv, frozen_stages, norm_eval,
            with_cp, min_loaded, init_cfg, conv_cfg,
        )  # fmt: skip
        self.arch = space.parse(arch)

    def _make_block(self, index: int, norm_cfg: dict) -> nn.Module:
        return self._make_unit(index, self._choices[index], norm_cfg)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps images (n, in_channels, h, w) to the stages in ``out_indices``; see :meth:`DetNASSupernet.forward`."""
        return self._run(x, self._segments(enumerate(self.blocks)))
