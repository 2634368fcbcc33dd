"""The residual bottleneck of MAE-DET."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from detnas_mm.models.layers import conv_norm, run_checkpointed
from detnas_mm.spaces.conv import Conv


class Bottleneck(nn.Module):
    """Residual bottleneck: 1x1 to the inner channels, k x k with the stride, 1x1 to the output; shortcut; ReLU.

    The shortcut of the first bottleneck of a super-block is a projection, even if input and output have equal shapes:
    a 2x2 average pool at stride 2, then a 1x1 convolution and a norm. Other bottlenecks add their input. The pool uses
    ``ceil_mode`` and does not count padding, so its output fits the convolutions' for odd sizes, too.

    Args:
        cin: Input channels.
        cout: Output channels.
        inner: Inner channels.
        kernel: Kernel of the middle convolution.
        stride: Stride of the middle convolution.
        projects: Whether the shortcut is a projection (first bottleneck of a super-block).
        norm_cfg: mmcv's norm config.
        with_cp: Use activation checkpointing.
        conv_cfg: mmcv's config of convolutions; None for ``nn.Conv2d``.
    """

    def __init__(
        self, cin: int, cout: int, inner: int, kernel: int, stride: int, projects: bool, norm_cfg: dict[str, Any],
        with_cp: bool = False, conv_cfg: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv1 = conv_norm(Conv(cin, inner), norm_cfg, True, conv_cfg)
        self.conv2 = conv_norm(Conv(inner, inner, kernel, stride), norm_cfg, True, conv_cfg)
        self.conv3 = conv_norm(Conv(inner, cout), norm_cfg, False, conv_cfg)
        self.pool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False) if stride == 2 else None
        self.shortcut = conv_norm(Conv(cin, cout), norm_cfg, False, conv_cfg) if projects else None
        self.relu = nn.ReLU(inplace=True)
        self.with_cp = with_cp

    def _forward(self, x: Tensor) -> Tensor:
        out = self.conv3(self.conv2(self.conv1(x)))
        if self.pool is not None:
            x = self.pool(x)
        if self.shortcut is not None:
            x = self.shortcut(x)
        return self.relu(out + x)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (n, cin, h, w) to (n, cout, ceil(h / stride), ceil(w / stride))."""
        return run_checkpointed(self, self._forward, x) if self.with_cp else self._forward(x)
