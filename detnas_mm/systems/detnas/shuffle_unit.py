"""The unit that all blocks of DetNAS are made of."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from detnas_mm.models.layers import conv_norm, run_checkpointed
from detnas_mm.spaces.conv import Conv

CHANNEL_SPLITS = ('shuffle', 'even_odd')


def branch(convs: tuple[Conv, ...], norm_cfg: dict, conv_cfg: dict | None = None) -> nn.Sequential:
    """Convolutions in a row; ReLU follows the pointwise ones and not the depthwise ones."""
    return nn.Sequential(*(conv_norm(conv, norm_cfg, conv.groups == 1, conv_cfg) for conv in convs))


def split_channels(x: Tensor, how: str) -> tuple[Tensor, Tensor]:
    """Deals the channels of ``x`` into (untouched, for the main branch).

    Args:
        x: Shape (n, c, h, w), c even.
        how: ``'shuffle'``: channel shuffle in 2 groups, then cut in the middle, as the authors' supernets;
            ``'even_odd'``: even channels are untouched, odd ones go through the main branch, as the released nets.

    Returns:
        Two tensors of shape (n, c / 2, h, w).
    """
    n, c, h, w = x.shape
    if how == 'even_odd':
        pairs = x.view(n, c // 2, 2, h, w)
        return pairs[:, :, 0], pairs[:, :, 1]
    if x.is_contiguous(memory_format=torch.channels_last):  # and stays so: what follows would turn it back and forth
        shuffled = (
            x.permute(0, 2, 3, 1).view(n, h, w, 2, c // 2).transpose(3, 4).reshape(n, h, w, c).permute(0, 3, 1, 2)
        )
    else:
        shuffled = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
    return shuffled[:, : c // 2], shuffled[:, c // 2 :]


fx.wrap('split_channels')  # one step of a traced net, which goes on looking at the layout of what it is given


class ShuffleUnit(nn.Module):
    """One block: (untouched half or projection) next to (main branch).

    With a projection (stride 2) both branches see the whole input; without one (stride 1) the channels are dealt
    into two halves. See section 3.1 of the paper and :meth:`DetNASSpace.convs`.

    Args:
        main: Convolutions of the main branch.
        proj: Convolutions of the projection branch; empty at stride 1.
        norm_cfg: mmcv's norm config.
        channel_split: See :func:`split_channels`.
        with_cp: Keep no inner activations, compute them again in the backward pass.
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
        """(n, cin, h, w) → (n, cout, ceil(h / stride), ceil(w / stride))."""
        return run_checkpointed(self, self._forward, x) if self.with_cp else self._forward(x)
