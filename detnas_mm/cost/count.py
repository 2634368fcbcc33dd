"""Counting on the real network, by hooks: what the tables must agree with. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from detnas_mm.cost.macs import checked_input_size


def count_macs(module: nn.Module, input_size: int | Sequence[int] = (224, 224), with_linear: bool = False) -> int:
    """Multiply-adds of the convolutions that one forward pass runs, biases and norms not counted.

    The pass runs on torch's meta device, shapes alone: it takes no memory and leaves the module as it was, whatever
    device it is on. A module that makes tensors on a fixed device in its forward cannot be counted this way.

    Args:
        module: Takes images of shape (1, 3, h, w). A supernet is counted on its active path.
        input_size: (height, width) in pixels.
        with_linear: Count linear layers too.

    Returns:
        Multiply-adds for one image.
    """
    height, width = checked_input_size(input_size)
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Linear):
            total += output.numel() * layer.in_features
        else:
            total += output.numel() * cast(Tensor, layer.weight)[0].numel()

    kinds = (nn.Conv2d, nn.Linear) if with_linear else nn.Conv2d
    modes = {layer: layer.training for layer in module.modules()}
    handles = [layer.register_forward_hook(count) for layer in modes if isinstance(layer, kinds)]
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    try:
        module.eval()
        with torch.no_grad():
            shapes = {name: tensor.to('meta') for name, tensor in tensors.items() if not tensor.is_meta}
            functional_call(module, shapes, (torch.empty(1, 3, height, width, device='meta'),))
    finally:
        for handle in handles:
            handle.remove()
        for layer, mode in modes.items():
            layer.training = mode
    return total


def count_params(module: nn.Module) -> int:
    """Parameters of a module, frozen ones too; of a supernet all choices."""
    return sum(parameter.numel() for parameter in module.parameters())
