"""The unit that all blocks of DetNAS are made of."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from inspect import isclass

import torch
from mmcv.cnn import build_norm_layer
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.utils.checkpoint import checkpoint

from detnas_mm.errors import DetNASError
from detnas_mm.spaces.detnas import Conv

CHANNEL_SPLITS = ('shuffle', 'even_odd')


def _build_norm(norm_cfg: dict, channels: int) -> tuple[str, nn.Module]:
    """Calls mmcv's ``build_norm_layer``, whose own message leaves out what was asked for."""
    try:
        return build_norm_layer(norm_cfg, channels)
    except KeyError as error:
        norms = (_NormBase, nn.GroupNorm)
        names = [n for n, kind in MODELS.module_dict.items() if isclass(kind) and issubclass(kind, norms)]
        allowed = ', '.join(name for name in names if not name.endswith(('1d', '3d')))
        raise DetNASError(
            f'norm_cfg {dict(norm_cfg)} names no norm that is registered. Types of norms on images are {allowed}, as '
            f"in norm_cfg=dict(type='BN')."
        ) from error


def conv_norm(conv: Conv, norm_cfg: dict, act: bool) -> nn.Sequential:
    """Convolution, norm and, if ``act``, ReLU; the norm's key is mmcv's own (``bn``, ``gn``, …).

    Raises:
        ValueError: If ``norm_cfg`` names no norm; lists those that there are.
    """
    name, norm = _build_norm(norm_cfg, conv.cout)
    layers: list[tuple[str, nn.Module]] = [
        (
            'conv',
            nn.Conv2d(conv.cin, conv.cout, conv.kernel, conv.stride, conv.kernel // 2, 1, conv.groups, conv.bias),
        ),
        (name, norm),
    ]
    if act:
        layers.append(('relu', nn.ReLU(inplace=True)))
    return nn.Sequential(OrderedDict(layers))


def branch(convs: tuple[Conv, ...], norm_cfg: dict) -> nn.Sequential:
    """Convolutions in a row; ReLU follows the pointwise ones and not the depthwise ones."""
    return nn.Sequential(*(conv_norm(conv, norm_cfg, act=conv.groups == 1) for conv in convs))


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
    """

    def __init__(
        self, main: tuple[Conv, ...], proj: tuple[Conv, ...], norm_cfg: dict, channel_split: str, with_cp: bool = False
    ) -> None:
        super().__init__()
        self.main = branch(main, norm_cfg)
        self.proj = branch(proj, norm_cfg) if proj else None
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


def run_checkpointed(module: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Runs a module's forward and keeps no inner activations: they are computed again in the backward pass."""
    if not torch.is_grad_enabled():
        return forward(x)
    return checkpoint(
        forward, x, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), hold_bn_still(module))
    )


@contextlib.contextmanager
def hold_bn_still(module: nn.Module) -> Iterator[None]:
    """Lets BN normalise by batch statistics without recording them a second time: they go to copies.

    Switching the recording off instead would change what autograd saves, which checkpointing refuses.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
    kept = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers(recurse=False)]
    for norm, name, buffer in kept:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in kept:
            setattr(norm, name, buffer)
