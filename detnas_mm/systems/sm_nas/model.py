"""Registered models of SM-NAS: its backbone, an RPN head with guided anchors, and the shared head of C4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from detnas_mm.checks import whole
from detnas_mm.models.backbone import Backbone
from detnas_mm.models.layers import checked_conv, checked_norm, conv_norm
from detnas_mm.registry import MODELS
from detnas_mm.spaces.conv import Conv
from detnas_mm.spaces.images import RGB
from detnas_mm.systems.sm_nas.asking import backbone_outputs
from detnas_mm.systems.sm_nas.blocks import ResidualBlock
from detnas_mm.systems.sm_nas.checking import check_detector, check_seed
from detnas_mm.systems.sm_nas.codes import EXPANSION, RESNET18, BlockCode, check_block
from detnas_mm.systems.sm_nas.first_step import check_loss
from detnas_mm.systems.sm_nas.ga_rpn import ga_rpn_head
from detnas_mm.systems.sm_nas.shared_head import res_layer

#: Names that are registered.
__all__ = [
    'SMNASBackbone',
    'backbone_outputs',
    'check_detector',
    'check_loss',
    'check_seed',
    'ga_rpn_head',
    'res_layer',
]


@MODELS.register_module()
class SMNASBackbone(Backbone):
    """Residual backbone that is described by a code of stages and blocks (Yao et al., SM-NAS, AAAI 2020, section 3.2).

    The stem is two 3×3 convolutions of stride 2, with ``base / 2`` and ``base`` channels. The first block of each stage
    but the first has stride 2. Takes images of any size.

    Args:
        code: Stages and blocks, such as ``'11-21-21-21'``; see :mod:`detnas_mm.systems.sm_nas.codes`.
        base: Output channels of the stem; even.
        block: ``'basic'``, ``'bottleneck'`` or ``'resnext'``, whose 3×3 convolutions have ``base // 2`` groups.
        out_indices: Stages whose outputs are returned: 0–3 at strides 4, 8, 16, 32. Defaults to all.
        norm_cfg: mmcv's norm config. Defaults to ``dict(type='BN')``. The published nets have ``base // 2`` groups:
            ``dict(type='detnas_mm.GroupNorm', num_groups=base // 2)``.
        conv_cfg: mmcv's config of convolutions, such as ``dict(type='detnas_mm.StandardizedConv2d')``. Defaults to
            ``nn.Conv2d``.
        frozen_stages: -1 freezes nothing, 0 the stem, i the stem and the first i stages.
        norm_eval: Keep BN in evaluation mode while training.
        with_cp: Recompute activations inside blocks in the backward pass, to save memory.
        zero_init_residual: Initialise the scale of the last norm of each block to 0, so that blocks start as their
            shortcut. Defaults to True, as in mmdet's ResNet.
        min_loaded: Minimum share of the backbone's tensors that a checkpoint must have, else loading fails. Defaults
            to 1.
        init_cfg: mmengine's. By default weights are initialised as in mmdet's ResNet (Kaiming, fan-out).
        in_channels: Channels of the images: 3, or 1 for grey images.

    Attributes:
        code: The :class:`BlockCode`.
        channels: Output channels of each stage, for ``in_channels`` of a neck.

    Raises:
        DetNASError: If the code or another argument is not valid; names the value and what is allowed.
    """

    def __init__(
        self,
        code: str | BlockCode = RESNET18,
        base: int = 64,
        block: str = 'basic',
        out_indices: Sequence[int] | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        conv_cfg: Mapping[str, Any] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        zero_init_residual: bool = True,
        min_loaded: float = 1.0,
        init_cfg: dict | list[dict] | None = None,
        in_channels: int = RGB,
    ) -> None:
        whole('in_channels', in_channels, 1)
        check_block(block, base)
        self.code = BlockCode.parse(code)
        super().__init__(
            len(self.code.stages), out_indices, frozen_stages, norm_eval, with_cp, min_loaded, init_cfg,
            in_channels=in_channels,
        )  # fmt: skip
        norm, conv = checked_norm(norm_cfg), checked_conv(conv_cfg)
        self.base, self.block, self.zero_init_residual = base, block, zero_init_residual
        self.channels = self.code.channels(base, block)
        half = base // 2
        self.stem = nn.Sequential(
            conv_norm(Conv(in_channels, half, 3, 2), norm, True, conv),
            conv_norm(Conv(half, base, 3, 2), norm, True, conv),
        )
        self.stages = nn.ModuleList()
        cin = base
        for index, widths in enumerate(self.code.widths(base)):
            blocks: list[nn.Module] = []
            for width in widths:
                stride = 2 if index and not blocks else 1
                blocks.append(ResidualBlock(cin, width, block, stride, half, norm, conv, with_cp))
                cin = width * EXPANSION[block]
            self.stages.append(nn.Sequential(*blocks))
        self._freeze()

    def stage_modules(self, stages: int) -> list[nn.Module]:
        """See :meth:`Backbone.stage_modules`."""
        return [self.stem, *self.stages[:stages]]

    def init_weights(self) -> None:
        """Initialises weights as mmdet's ResNet does, then by ``init_cfg``."""
        last = {m.last_norm for m in self.modules() if isinstance(m, ResidualBlock)} if self.zero_init_residual else ()
        self._init_as_resnet(last)
        super().init_weights()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps images (n, in_channels, h, w) to the stages of ``out_indices``, (n, c, ⌈h / stride⌉, ⌈w / stride⌉)."""
        x = self.stem(x)
        outs = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)
