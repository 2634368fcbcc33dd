"""Extracts one net, with its weights, from a supernet."""

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
    """Returns the weights of one path, under the keys of the fixed net.

    Args:
        state_dict: State dict of a supernet, or of a model that has one under ``prefix``; other keys are kept.
        path: The path; anything but an :class:`Architecture` is parsed by the space of ``supernet``.
        supernet: The supernet or its class, which translates the keys.
        prefix: Prefix of the supernet's keys, such as ``'backbone'``, with or without a dot at the end.

    Returns:
        A state dict of the fixed net, or of the same model with the fixed net in the supernet's place. Tensors are
        copied, so that later changes of the supernet do not reach them.

    Raises:
        ValueError: If there are no weights of that path under the prefix, or the path is not a member of the space.
    """
    if not isinstance(supernet, type):
        path = supernet.space.parse(path)
    elif not isinstance(path, Architecture):
        raise DetNASError(
            f'{supernet.__name__} is a class and has no space to parse {path!r}. Give the supernet itself, or an '
            f'Architecture: space.parse({path!r}).'
        )
    prefix = prefix.rstrip('.')
    prefix += '.' if prefix else ''
    own = [key[len(prefix) :] for key in state_dict if key.startswith(prefix)]
    names = {key: supernet.subnet_key(key, path) for key in own} if supernet.has_path(own, path) else {}
    if all(new is None for new in names.values()):
        raise DetNASError(
            f'Under the prefix {prefix!r} there are no weights of the path {list(path.genes)}. Check the prefix, such '
            f"as 'backbone.', and the path's space. Keys: {', '.join(list(state_dict)[:3])}, …"
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
        sliced._metadata = OrderedDict({prefix[:-1]: metadata})  # type: ignore[attr-defined]  # torch's name for it
    return sliced


def extract_subnet(
    supernet: Supernet, path: Architecture | str | Sequence[int], backbone: Mapping[str, Any]
) -> nn.Module:
    """Builds the fixed net of a path with the supernet's weights, in the supernet's training mode and on its device.

    Args:
        supernet: The supernet.
        path: The path.
        backbone: The config from which the supernet was built.

    Raises:
        ValueError: If the path is not a member of the supernet's space.
    """
    path = supernet.space.parse(path)
    configured = supernet.space.configure(dict(model=dict(backbone=dict(backbone))), path)
    if configured is None:
        raise DetNASError(f'{type(supernet.space).__name__} cannot build its nets: its configure() returns None.')
    net = MODELS.build(configured['model']['backbone'])
    net.load_state_dict(slice_state_dict(supernet.state_dict(), path, supernet))
    net.to(next(supernet.parameters()).device)
    net.train(supernet.training)  # on a line of its own: mmdet's ResNet.train returns None
    return net


@torch.no_grad()
def max_difference(supernet: Supernet, net: nn.Module, path: Architecture, images: Tensor) -> float:
    """Returns the largest absolute difference between outputs of a supernet on a path and of a net; 0.0: equal bits.

    Both run in evaluation mode; modes and the supernet's active path are restored.

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
