"""Cutting one net out of a supernet."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from detnas_mm.errors import DetNASError
from detnas_mm.models.modes import kept_modes
from detnas_mm.models.supernet import Supernet
from detnas_mm.registry import MODELS
from detnas_mm.spaces import Architecture


def slice_state_dict(
    state_dict: Mapping[str, Tensor],
    path: Architecture | str | Sequence[int],
    supernet: type[Supernet] | Supernet,
    prefix: str = '',
) -> OrderedDict[str, Tensor]:
    """The weights that one path uses, under the fixed net's keys.

    Args:
        state_dict: Of a supernet, or of a model that holds one under ``prefix``; other keys are kept.
        path: What to keep; anything but an :class:`Architecture` needs the supernet itself, whose space reads it.
        supernet: The supernet or its class, which knows how keys translate.
        prefix: Where the supernet's keys begin, such as ``'backbone'``, with or without a dot at the end.

    Returns:
        A state dict of the fixed net, or of the same model with the fixed net in the supernet's place. Tensors are
        copied, so that later changes of the supernet do not reach them.

    Raises:
        ValueError: If there are no weights of that path under the prefix, or it is no member of the space.
    """
    if not isinstance(supernet, type):
        path = supernet.space.parse(path)
    elif not isinstance(path, Architecture):
        raise DetNASError(
            f'{supernet.__name__} is a class and has no space to read {path!r} by. Give the supernet itself, or an '
            f'Architecture: space.parse({path!r}).'
        )
    prefix = prefix.rstrip('.')
    prefix += '.' if prefix else ''
    own = [key[len(prefix) :] for key in state_dict if key.startswith(prefix)]
    names = {key: supernet.subnet_key(key, path) for key in own} if supernet.has_path(own, path) else {}
    if all(new is None for new in names.values()):
        raise DetNASError(
            f'Under the prefix {prefix!r} there are no weights of the path {list(path.genes)}. Check the prefix, such '
            f"as 'backbone.', and that the path is of the supernet's space. Keys: {', '.join(list(state_dict)[:3])}, …"
        )
    sliced: OrderedDict[str, Tensor] = OrderedDict()
    for key, value in state_dict.items():
        new_key: str | None = key
        if key.startswith(prefix):
            new_key = names[key[len(prefix) :]]
            new_key = None if new_key is None else prefix + new_key
        if new_key is not None:
            sliced[new_key] = value.detach().clone()
    metadata = {} if isinstance(supernet, type) else cast(Supernet, supernet).subnet_metadata(path)
    if metadata:
        sliced._metadata = OrderedDict({prefix[:-1]: metadata})  # type: ignore[attr-defined]  # as torch calls it
    return sliced


def extract_subnet(
    supernet: Supernet, path: Architecture | str | Sequence[int], backbone: Mapping[str, Any]
) -> nn.Module:
    """Builds the fixed net of a path with the supernet's weights, in the supernet's training mode and on its device.

    Args:
        supernet: The supernet.
        path: What to keep.
        backbone: The config that the supernet was built of.

    Raises:
        ValueError: If the path is no member of the supernet's space.
    """
    path = supernet.space.parse(path)
    configured = supernet.space.configure(dict(model=dict(backbone=dict(backbone))), path)
    if configured is None:
        raise DetNASError(f'{type(supernet.space).__name__} does not say how a net of its own is built (configure).')
    net = MODELS.build(configured['model']['backbone'])
    net.load_state_dict(slice_state_dict(supernet.state_dict(), path, supernet))
    net.to(next(supernet.parameters()).device)
    net.train(supernet.training)  # on a line of its own: mmdet's ResNet.train returns None
    return net


@torch.no_grad()
def max_difference(supernet: Supernet, net: nn.Module, path: Architecture, images: Tensor) -> float:
    """Largest absolute difference between the outputs of a supernet on a path and of a net; 0.0 means equal bits.

    Both run in evaluation mode; modes and the supernet's active path are put back after.

    Args:
        supernet: The supernet.
        net: The fixed net to compare with.
        path: The path to run.
        images: Shape (n, c, h, w).
    """
    before = supernet.active_path
    supernet.set_path(path)
    try:
        with kept_modes(supernet, net):
            supernet.eval()
            net.eval()
            return max((a - b).abs().max().item() for a, b in zip(supernet(images), net(images), strict=True))
    finally:
        supernet.set_path(before)
