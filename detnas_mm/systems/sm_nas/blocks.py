"""The residual blocks that backbones of SM-NAS are made of."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from detnas_mm.models.layers import conv_norm, run_checkpointed
from detnas_mm.spaces.conv import Conv
from detnas_mm.systems.sm_nas.codes import EXPANSION


class ResidualBlock(nn.Module):
    """A block of ResNet or ResNeXt; plus the shortcut; ReLU.

    ``'basic'``: two 3×3 convolutions, the first with the stride. ``'bottleneck'``: 1×1, 3×3 with the stride, 1×1 to
    four times the width. ``'resnext'``: as a bottleneck, but the 3×3 convolution has twice the width and is grouped.
    The shortcut is the input, or a 1×1 convolution and a norm where the stride or the channels differ.

    Args:
        cin: Input channels.
        width: The block's own channels; it gives out ``width * EXPANSION[kind]``.
        kind: One of :data:`EXPANSION`.
        stride: 1 or 2.
        groups: Of the 3×3 convolution of ``'resnext'``; the others are dense.
        norm_cfg: mmcv's norm config.
        conv_cfg: mmcv's config of convolutions; None for ``nn.Conv2d``.
        with_cp: Keep no inner activations, compute them again in the backward pass.
    """

    def __init__(
        self, cin: int, width: int, kind: str, stride: int, groups: int, norm_cfg: dict[str, Any],
        conv_cfg: dict[str, Any] | None = None, with_cp: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        cout = width * EXPANSION[kind]
        if kind == 'basic':
            convs = [Conv(cin, width, 3, stride), Conv(width, width, 3)]
        else:
            inner, groups = (2 * width, groups) if kind == 'resnext' else (width, 1)
            convs = [Conv(cin, inner), Conv(inner, inner, 3, stride, groups), Conv(inner, cout)]
        layers = [conv_norm(conv, norm_cfg, conv is not convs[-1], conv_cfg) for conv in convs]
        #: Names of the layers in the order in which they run.
        self.layers = [f'conv{i}' for i, _ in enumerate(layers, 1)]
        for name, layer in zip(self.layers, layers, strict=True):
            self.add_module(name, layer)
        projects = stride != 1 or cin != cout
        self.shortcut = conv_norm(Conv(cin, cout, 1, stride), norm_cfg, False, conv_cfg) if projects else None
        self.relu = nn.ReLU(inplace=True)
        self.with_cp = with_cp

    @property
    def last_norm(self) -> nn.Module:
        """The norm before the sum."""
        return getattr(self, self.layers[-1])[1]

    def _forward(self, x: Tensor) -> Tensor:
        out = x
        for name in self.layers:
            out = getattr(self, name)(out)
        return self.relu(out + (x if self.shortcut is None else self.shortcut(x)))

    def forward(self, x: Tensor) -> Tensor:
        """(n, cin, h, w) → (n, width * expansion, ceil(h / stride), ceil(w / stride))."""
        return run_checkpointed(self, self._forward, x) if self.with_cp else self._forward(x)
