"""What SM-NAS adds to the registry of models: its backbone, and a head for region proposals."""

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
from detnas_mm.systems.sm_nas.asking import backbone_outputs, check_detector, check_seed
from detnas_mm.systems.sm_nas.blocks import ResidualBlock
from detnas_mm.systems.sm_nas.codes import EXPANSION, RESNET18, BlockCode, check_block
from detnas_mm.systems.sm_nas.ga_rpn import ga_rpn_head

#: What the registry of models finds here.
__all__ = ['SMNASBackbone', 'backbone_outputs', 'check_detector', 'check_seed', 'ga_rpn_head']


@MODELS.register_module()
class SMNASBackbone(Backbone):
    """A residual net whose channels double where its code says (Yao et al., SM-NAS, AAAI 2020, section 3.2).

    The stem is two 3×3 convolutions of stride 2, to half the base channels and to all of them; the first block of every
    stage but the first has stride 2. Images of any size.

    Args:
        code: Stages and blocks, such as ``'11-21-21-21'``; see :mod:`detnas_mm.systems.sm_nas.codes`.
        base: Channels that the stem gives out; even.
        block: ``'basic'``, ``'bottleneck'`` or ``'resnext'``, whose 3×3 convolutions have ``base // 2`` groups.
        out_indices: Stages whose outputs are returned: 0–3 at strides 4, 8, 16, 32. Defaults to all.
        norm_cfg: mmcv's norm config. Defaults to ``dict(type='BN')``. The published nets have groups of
            ``base // 2``: ``dict(type='detnas_mm.GroupNorm', num_groups=base // 2)``.
        conv_cfg: mmcv's config of convolutions, such as ``dict(type='detnas_mm.StandardizedConv2d')``. Defaults to
            ordinary ones.
        frozen_stages: -1 none, 0 the stem, i the stem and the first i stages.
        norm_eval: Keep BN in evaluation mode while training.
        with_cp: Trade compute for memory: activations inside blocks are computed again in the backward pass.
        zero_init_residual: Begin with blocks that add nothing to their shortcuts: their last norm's scale is 0.
            Defaults to True, as mmdet's ResNet.
        min_loaded: Share of the backbone's tensors that a checkpoint must hold, else loading fails. Defaults to 1.
        init_cfg: mmengine's. By default weights are drawn as mmdet's ResNet draws them (Kaiming, fan-out).
        in_channels: Channels of the images: 1 for grey ones.

    Attributes:
        code: The :class:`BlockCode`.
        channels: Channels of every stage, for ``in_channels`` of a neck.

    Raises:
        DetNASError: If the code or another argument does not fit; names the value and what is allowed.
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
        """Mmdet's initialisation of a ResNet, then what ``init_cfg`` says."""
        last = {m.last_norm for m in self.modules() if isinstance(m, ResidualBlock)} if self.zero_init_residual else ()
        self._init_as_resnet(last)
        super().init_weights()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images (n, in_channels, h, w) → the stages asked for, (n, c, h / stride, w / stride), rounded up."""
        x = self.stem(x)
        outs = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)
