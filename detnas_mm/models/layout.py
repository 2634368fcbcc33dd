"""The channels_last memory layout of weights and activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def to_channels_last(model: nn.Module) -> Callable[[], None]:
    """Puts the weights of convolutions into channels_last memory format; activations follow, values do not change.

    mmcv's compiled operators (RoIAlign, …) read memory in the contiguous layout, whatever the strides of a tensor, and
    would return wrong values: their inputs are made contiguous.

    Args:
        model: The model.

    Returns:
        A function that puts the contiguous layout back.
    """
    model.to(memory_format=torch.channels_last)
    operators = [module for module in model.modules() if type(module).__module__.startswith('mmcv.ops')]
    handles = [one.register_forward_pre_hook(_contiguous, with_kwargs=True) for one in operators]

    def back() -> None:
        for handle in handles:
            handle.remove()
        model.to(memory_format=torch.contiguous_format)

    return back


def _contiguous(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    def ordinary(value: Any) -> Any:
        return value.contiguous() if isinstance(value, torch.Tensor) else value

    return tuple(map(ordinary, args)), {key: ordinary(value) for key, value in kwargs.items()}
