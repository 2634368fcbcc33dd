"""Layers that more than one system uses: convolution with norm, and checkpointing that leaves BN alone."""

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
from detnas_mm.spaces.conv import Conv


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
