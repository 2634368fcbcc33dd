"""The ShuffleNetV2-like unit, of which all DetNAS blocks are made."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from detnas_mm.models.layers import conv_norm, run_checkpointed
from detnas_mm.spaces.conv import Conv

CHANNEL_SPLITS = ('shuffle', 'even_odd')


def branch(convs: tuple[Conv, ...], norm_cfg: dict, conv_cfg: dict | None = None) -> nn.Sequential:
    """Builds a sequence of convolutions; ReLU follows the pointwise ones but not the depthwise ones."""
    return nn.Sequential(*(conv_norm(conv, norm_cfg, conv.groups == 1, conv_cfg) for conv in convs))


def split_channels(x: Tensor, how: str) -> tuple[Tensor, Tensor]:
    """Splits the channels of ``x`` into two halves: (identity, main branch).

    Args:
        x: Shape (n, c, h, w), c even.
        how: ``'shuffle'``: channel shuffle in 2 groups, then a split in the middle, as in the authors' supernets;
            ``'even_odd'``: even channels to the identity, odd ones to the main branch, as in their released nets.

    Returns:
        Two tensors of shape (n, c / 2, h, w).
    """
    n, c, h, w = x.shape
    if how == 'even_odd':
        pairs = x.view(n, c // 2, 2, h, w)
        return pairs[:, :, 0], pairs[:, :, 1]
    if x.is_contiguous(memory_format=torch.channels_last):  # keep that layout, else it would be converted twice
        shuffled = (
            x.permute(0, 2, 3, 1).view(n, h, w, 2, c // 2).transpose(3, 4).reshape(n, h, w, c).permute(0, 3, 1, 2)
        )
    else:
        shuffled = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
    return shuffled[:, : c // 2], shuffled[:, c // 2 :]


fx.wrap('split_channels')  # one node in traced nets, so that the layout is still checked at run time


class ShuffleUnit(nn.Module):
    """One block: concatenates the identity half or the projection with the main branch.

    At stride 2 both branches get the whole input; at stride 1 the channels are split into halves, one of which is
    passed on unchanged. See section 3.1 of the paper and :meth:`DetNASSpace.convs`.

    Args:
        main: Convolutions of the main branch.
        proj: Convolutions of the projection branch; empty at stride 1.
        norm_cfg: mmcv's norm config.
        channel_split: See :func:`split_channels`.
        with_cp: Use activation checkpointing.
        conv_cfg: mmcv's config of convolutions; None for ``nn.Conv2d``.
    """

    def __init__(
        self, main: tuple[Conv, ...], proj: tuple[Conv, ...], norm_cfg: dict, channel_split: str,
        with_cp: bool = False, conv_cfg: dict | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.main = branch(main, norm_cfg, conv_cfg)
        self.proj = branch(proj, norm_cfg, conv_cfg) if proj else None
        self.channel_split = channel_split
        self.with_cp = with_cp

    def _forward(self, x: Tensor) -> Tensor:
        if self.proj is None:
            untouched, x = split_channels(x, self.channel_split)
        else:
            untouched = self.proj(x)
        return torch.cat((untouched, self.main(x)), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (n, cin, h, w) to (n, cout, ceil(h / stride), ceil(w / stride))."""
        return run_checkpointed(self, self._forward, x) if self.with_cp else self._forward(x)
