"""Layers shared by systems: convolution with norm, and checkpointing that does not update BN twice."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from inspect import isclass
from typing import Any

import torch
from mmcv.cnn import build_conv_layer, build_norm_layer
from mmengine.registry import MODELS
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.utils.checkpoint import checkpoint

from detnas_mm.errors import DetNASError
from detnas_mm.spaces.conv import Conv


def checked_norm(norm_cfg: Any) -> dict[str, Any]:
    """Returns mmcv's config of the norm; BN if None is given.

    Raises:
        DetNASError: If it is not a mapping.
    """
    if norm_cfg is not None and not isinstance(norm_cfg, Mapping):
        raise DetNASError(f"norm_cfg must be a dict, such as dict(type='BN'); got {norm_cfg!r}.")
    return dict(norm_cfg or dict(type='BN'))


def checked_conv(conv_cfg: Any) -> dict[str, Any] | None:
    """Returns mmcv's config of the convolutions; None means ``nn.Conv2d``.

    Raises:
        DetNASError: If it is not a mapping with a type.
    """
    if conv_cfg is not None and not (isinstance(conv_cfg, Mapping) and 'type' in conv_cfg):
        raise DetNASError(
            f"conv_cfg must be a dict, such as dict(type='detnas_mm.StandardizedConv2d'), or None; got {conv_cfg!r}."
        )
    return None if conv_cfg is None else dict(conv_cfg)


def _build_norm(norm_cfg: dict, channels: int) -> tuple[str, nn.Module]:
    """Calls mmcv's ``build_norm_layer`` with an error that names the given config and the registered norms."""
    try:
        return build_norm_layer(norm_cfg, channels)
    except KeyError as error:
        norms = (_NormBase, nn.GroupNorm)
        names = [n for n, kind in MODELS.module_dict.items() if isclass(kind) and issubclass(kind, norms)]
        allowed = ', '.join(name for name in names if not name.endswith(('1d', '3d')))
        raise DetNASError(
            f'norm_cfg {dict(norm_cfg)} has no type of a registered norm. Types for images: {allowed}, as '
            f"in norm_cfg=dict(type='BN')."
        ) from error


def _build_conv(conv_cfg: dict | None, conv: Conv) -> nn.Conv2d:
    """Calls mmcv's ``build_conv_layer`` with an error that names the given config."""
    try:
        return build_conv_layer(
            conv_cfg, conv.cin, conv.cout, conv.kernel, conv.stride, conv.kernel // 2, 1, conv.groups, conv.bias
        )
    except KeyError as error:
        raise DetNASError(
            f'conv_cfg {conv_cfg} has no type of a registered convolution, such as Conv2d or '
            f'detnas_mm.StandardizedConv2d.'
        ) from error


def conv_norm(conv: Conv, norm_cfg: dict, act: bool, conv_cfg: dict | None = None) -> nn.Sequential:
    """Builds convolution, norm and, with ``act``, ReLU; the norm's key is mmcv's (``bn``, ``gn``, …).

    Args:
        conv: Shape of the convolution.
        norm_cfg: mmcv's norm config.
        act: Whether a ReLU follows.
        conv_cfg: mmcv's config of the layer. Defaults to ``nn.Conv2d``.

    Raises:
        DetNASError: If ``norm_cfg`` names no norm, or ``conv_cfg`` no convolution; the message lists what exists.
    """
    name, norm = _build_norm(norm_cfg, conv.cout)
    layers: list[tuple[str, nn.Module]] = [
        (
            'conv',
            _build_conv(conv_cfg, conv),
        ),
        (name, norm),
    ]
    if act:
        layers.append(('relu', nn.ReLU(inplace=True)))
    return nn.Sequential(OrderedDict(layers))


def run_checkpointed(module: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Runs a module's forward without keeping inner activations: the backward pass computes them again.

    When ``torch.fx`` traces a net it sees the plain forward.
    """
    if not torch.is_grad_enabled() or isinstance(x, fx.Proxy):
        return forward(x)
    return checkpoint(
        forward, x, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), hold_bn_still(module))
    )


@contextlib.contextmanager
def hold_bn_still(module: nn.Module) -> Iterator[None]:
    """Lets BN layers normalise by batch statistics but update copies of their running statistics.

    Switching updates off instead would change what autograd saves, and checkpointing raises then.
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
