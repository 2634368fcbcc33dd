"""Runs parts of detectors on the meta device, and finds the outputs of backbones."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from detnas_mm.errors import DetNASError, LibraryError, library_errors
from detnas_mm.models.build import without_memory
from detnas_mm.registry import MODELS, building
from detnas_mm.spaces.images import RGB, backbone_channels

#: Side in pixels of the image on which strides are found; a map of stride 128 still has 4 x 4.
_SIDE = 512


class NotOnMetaError(LibraryError):
    """Raised where an operator does not run without memory, so that nothing is known of its outputs."""


@MODELS.register_module()
def backbone_outputs(backbone: Mapping[str, Any]) -> dict[str, list[int]]:
    """Returns the outputs of a backbone as lists: ``channels``, ``strides`` and ``out_indices``.

    Builds it and runs it once on the meta device, with its own ``out_indices``.

    Args:
        backbone: Its config; a type without a scope is mmdet's.

    Raises:
        DetNASError: If it does not build or run, or two of its maps have the same stride.
    """
    net = build_part('backbone', backbone)
    with torch.no_grad():
        maps = meta_maps(net, meta_image(backbone_channels(dict(backbone=backbone)) or RGB))
    strides = [stride_of(one) for one in maps]
    own = backbone.get('out_indices', getattr(net, 'out_indices', None))
    indices = list(range(len(maps))) if own is None else [own] if isinstance(own, int) else list(own)
    if len(indices) != len(maps) or strides != sorted(set(strides)):
        raise DetNASError(
            f'its {len(maps)} feature maps have strides {strides} and out_indices {indices}; strides must increase, '
            f'and each map needs an index. Give channels, strides and out_indices of the maps to use.'
        )
    return dict(channels=[one.shape[1] for one in maps], strides=strides, out_indices=indices)


def build_part(what: str, part: Mapping[str, Any]) -> nn.Module:
    """Builds a part of a detector on the meta device, without pre-trained weights.

    Args:
        what: Its key, for messages.
        part: Its config; a type without a scope is mmdet's.

    Raises:
        DetNASError: If it does not build.
    """
    settings = {key: value for key, value in part.items() if key not in ('init_cfg', 'pretrained')}
    with without_memory(), building(what), DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(copy.deepcopy(settings))


def meta_image(channels: int) -> Tensor:
    """Returns an image of shape (1, channels, side, side) on the meta device."""
    return torch.empty(1, channels, _SIDE, _SIDE, device='meta')


def meta_map(channels: int, stride: int) -> Tensor:
    """Returns a feature map of :func:`meta_image` on the meta device."""
    return torch.empty(1, channels, _SIDE // stride, _SIDE // stride, device='meta')


def stride_of(one: Tensor) -> int:
    """Returns the stride of a feature map of :func:`meta_image`."""
    return _SIDE // one.shape[2]


def meta_maps(net: nn.Module, inputs: Any) -> list[Tensor]:
    """Returns the feature maps of a backbone or neck, which is moved to the meta device, in evaluation mode.

    Args:
        net: The backbone or neck.
        inputs: What it takes: an image or feature maps on the meta device.

    Raises:
        NotOnMetaError: If one of its operators, such as a deformable convolution, does not run there.
        LibraryError: If it does not take the inputs.
    """
    name = type(net).__name__
    for module in net.modules():
        if getattr(module, 'with_cp', False) is True:
            module.with_cp = False  # there is no memory to save
    with on_meta(f'{name} on an image of {_SIDE} x {_SIDE}'):
        net.to('meta').eval()  # of mmdet's backbones eval() returns nothing
        maps = net(inputs)
    return [maps] if isinstance(maps, Tensor) else list(maps)


def gradients(maps: Sequence[Tensor]) -> None:
    """Computes the gradients of parameters on which feature maps depend; without memory, so they have no values."""
    total = torch.stack([one.sum() for one in maps]).sum()
    if total.requires_grad:
        total.backward()


@contextmanager
def on_meta(what: str) -> Iterator[None]:
    """Lets modules run on the meta device, and converts their errors.

    Args:
        what: Names it, for messages.

    Raises:
        NotOnMetaError: If an operator does not run there.
        LibraryError: For other errors of libraries.
    """
    try:
        with torch.device('meta'), library_errors(what):
            yield
    except LibraryError as error:
        if isinstance(error.__cause__, RuntimeError) and 'meta' in str(error.__cause__).lower():
            raise NotOnMetaError(
                f'{error}. It has an operator that needs values: give channels, strides and out_indices.'
            ) from error
        raise
