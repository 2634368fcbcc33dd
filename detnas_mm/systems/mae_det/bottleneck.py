"""The bottleneck that super-blocks of MAE-DET are made of."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from detnas_mm.models.layers import conv_norm, run_checkpointed
from detnas_mm.spaces.conv import Conv


class Bottleneck(nn.Module):
    """1x1 to the inner channels, k x k with the stride, 1x1 to the output; plus the shortcut; ReLU.

    The first bottleneck of a super-block projects its shortcut, also where input and output are alike: an average pool
    of 2x2 if the stride is 2, then a 1x1 convolution and a norm. The others add their input. The pool rounds sizes up
    and does not count padding, as the convolutions do, so that every input size works; even sizes know no difference.

    Args:
        cin: Input channels.
        cout: Output channels.
        inner: Channels between.
        kernel: Side of the middle kernel.
        stride: Of the middle convolution.
        projects: Whether it is the first of its super-block.
        norm_cfg: mmcv's norm config.
        with_cp: Keep no inner activations, compute them again in the backward pass.
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
        """(n, cin, h, w) → (n, cout, ceil(h / stride), ceil(w / stride))."""
        return run_checkpointed(self, self._forward, x) if self.with_cp else self._forward(x)
