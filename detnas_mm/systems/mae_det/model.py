"""The backbone of MAE-DET."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from detnas_mm.checks import whole
from detnas_mm.errors import DetNASError
from detnas_mm.models.backbone import Backbone
from detnas_mm.models.layers import checked_conv, checked_norm, conv_norm
from detnas_mm.registry import MODELS
from detnas_mm.spaces import Architecture
from detnas_mm.spaces.conv import Conv
from detnas_mm.systems.mae_det.bottleneck import Bottleneck
from detnas_mm.systems.mae_det.structure import read_with_channels, stage_ends, stages, to_text, unpack


@MODELS.register_module()
class MAEDetNet(Backbone):
    """Residual backbone of super-blocks (Sun et al., MAE-DET, ICML 2022) for images of any size.

    Args:
        arch: ``'maedet-s'``, ``'maedet-m'``, ``'maedet-l'``, a text such as ``'32k3s2|48k5s2x2b32|…'``, the authors'
            list of dicts, or an :class:`Architecture`; see :func:`detnas_mm.systems.mae_det.structure.read_structure`.
        out_indices: Stages whose outputs are returned: 0–3 at strides 4, 8, 16, 32. Every block of stride 2 begins a
            stage. Defaults to all.
        norm_cfg: mmcv's norm config. Defaults to ``dict(type='BN')``.
        frozen_stages: -1 freezes nothing, 0 the stem, i the stem and the first i stages.
        norm_eval: Keep BN in evaluation mode while training.
        with_cp: Use activation checkpointing inside bottlenecks, which saves memory and costs time.
        zero_init_residual: Initialise the scale of the last norm of every bottleneck to 0. Defaults to True, as in
            mmdet's ResNet.
        min_loaded: Share of the backbone's tensors that a checkpoint must contain, else loading fails. Defaults to 1.
        init_cfg: mmengine's ``init_cfg``. Defaults to the initialisation of mmdet's ResNet (Kaiming, fan-out).
        in_channels: Channels of the images, such as 1 for grey ones; published nets only take 3. Defaults to that of a
            list of dicts, else 3.
        conv_cfg: mmcv's config of convolutions, such as ``dict(type='detnas_mm.StandardizedConv2d')``. Defaults to
            ``nn.Conv2d``.

    Attributes:
        arch: The architecture.
        channels: Channels of every stage, for ``in_channels`` of a neck.

    Raises:
        ValueError: If the structure or another argument is invalid; names block and rule.
    """

    def __init__(
        self,
        arch: str | Sequence[Any] | Architecture = 'maedet-s',
        out_indices: Sequence[int] | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        zero_init_residual: bool = True,
        min_loaded: float = 1.0,
        init_cfg: dict | list[dict] | None = None,
        in_channels: int | None = None,
        conv_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        if in_channels is not None:
            whole('in_channels', in_channels, 1)
        self.arch, in_channels = read_with_channels(arch, in_channels)
        stem, blocks = unpack(self.arch)
        self._stages = stages([block.stride for block in blocks])
        if not self._stages[-1]:
            raise DetNASError(
                f'{to_text(self.arch)} has no block of stride 2. Every stage begins with one, so the backbone would '
                f'return no feature map: give at least one block stride 2.'
            )
        super().__init__(
            self._stages[-1], out_indices, frozen_stages, norm_eval, with_cp, min_loaded, init_cfg,
            in_channels=in_channels,
        )  # fmt: skip
        norm, own = checked_norm(norm_cfg), checked_conv(conv_cfg)
        self.zero_init_residual = zero_init_residual
        self.stem = conv_norm(Conv(in_channels, stem.out, stem.kernel, stem.stride), norm, True, own)
        self.blocks = nn.ModuleList()
        for block in blocks:
            self.blocks.append(
                nn.Sequential(
                    *(
                        Bottleneck(
                            block.out if j else block.cin,
                            block.out,
                            block.bottleneck,
                            block.kernel,
                            1 if j else block.stride,
                            j == 0,
                            norm,
                            with_cp,
                            own,
                        )  # fmt: skip
                        for j in range(block.depth)
                    )
                )
            )
        self._ends = {i: stage for stage, i in enumerate(stage_ends([block.stride for block in blocks]))}
        self.channels = tuple(blocks[i].out for i in self._ends)
        self._freeze()

    def stage_modules(self, stages: int) -> list[nn.Module]:
        """See :meth:`Backbone.stage_modules`; blocks before the first of stride 2 belong to the stem."""
        return [self.stem, *(b for b, stage in zip(self.blocks, self._stages, strict=True) if stage <= stages)]

    def init_weights(self) -> None:
        """Initialises weights as mmdet's ResNet does, then applies ``init_cfg``."""
        residual = {m.conv3[1] for m in self.modules() if isinstance(m, Bottleneck)} if self.zero_init_residual else ()
        self._init_as_resnet(residual)
        super().init_weights()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps images (n, in_channels, h, w) to the stages in ``out_indices``, (n, c, h / stride, w / stride).

        Sizes are rounded up.
        """
        x = self.stem(x)
        outs = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if self._ends.get(index) in self.out_indices:
                outs.append(x)
        return tuple(outs)
