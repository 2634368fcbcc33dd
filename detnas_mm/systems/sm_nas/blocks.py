"""Residual blocks of SM-NAS backbones."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from detnas_mm.models.layers import conv_norm, run_checkpointed
from detnas_mm.spaces.conv import Conv
from detnas_mm.systems.sm_nas.codes import EXPANSION


class ResidualBlock(nn.Module):
    """Residual block of a ResNet or ResNeXt: convolutions, plus the shortcut, then ReLU.

    ``'basic'``: two 3×3 convolutions, the first with the stride. ``'bottleneck'``: 1×1, 3×3 with the stride, 1×1 to
    four times the width. ``'resnext'``: a bottleneck whose 3×3 convolution is grouped and has twice the width. The
    shortcut is the input; where stride or channels differ, a 1×1 convolution and a norm.

    Args:
        cin: Input channels.
        width: The block's own channels; it has ``width * EXPANSION[kind]`` output channels.
        kind: One of :data:`EXPANSION`.
        stride: 1 or 2.
        groups: Groups of the 3×3 convolution of ``'resnext'``; ignored by the other types.
        norm_cfg: mmcv's norm config.
        conv_cfg: mmcv's config of convolutions; None for ``nn.Conv2d``.
        with_cp: Recompute inner activations in the backward pass, to save memory.
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
        """Norm before the sum with the shortcut."""
        return getattr(self, self.layers[-1])[1]

    def _forward(self, x: Tensor) -> Tensor:
        out = x
        for name in self.layers:
            out = getattr(self, name)(out)
        return self.relu(out + (x if self.shortcut is None else self.shortcut(x)))

    def forward(self, x: Tensor) -> Tensor:
        """(n, cin, h, w) → (n, width * expansion, ceil(h / stride), ceil(w / stride))."""
        return run_checkpointed(self, self._forward, x) if self.with_cp else self._forward(x)
