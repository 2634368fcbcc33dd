"""How a model computes while it is evaluated: numbers of fewer bits, another memory layout."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

#: What ``precision`` may be, and torch's name for it.
PRECISIONS = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}


def checked_precision(precision: str) -> str:
    """The precision, if it is one.

    Raises:
        ValueError: If it is not.
    """
    if precision not in PRECISIONS:
        raise ValueError(f'precision must be one of {", ".join(PRECISIONS)}; got {precision!r}.')
    return precision


@contextlib.contextmanager
def numerics(model: nn.Module, precision: str = 'fp32', channels_last: bool = False) -> Iterator[None]:
    """Lets a model's forward passes run under autocast, and its weights lie channels last; puts the layout back.

    Weights stay in float32, and so do recalibrated BN statistics.

    Args:
        model: The model.
        precision: ``'fp32'``, ``'fp16'`` or ``'bf16'``.
        channels_last: Whether weights of convolutions, and with them activations, lie channels last.
    """
    device = next(model.parameters()).device.type
    if channels_last:
        model.to(memory_format=torch.channels_last)
    try:
        with torch.autocast(device, PRECISIONS[precision], enabled=precision != 'fp32'):
            yield
    finally:
        if channels_last:
            model.to(memory_format=torch.contiguous_format)
