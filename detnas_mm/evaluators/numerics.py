"""Precision and memory layout of a model during evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.temporary import replaced
from detnas_mm.models.layout import to_channels_last

#: Allowed values of ``precision``, with torch's types.
PRECISIONS = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}


def checked_precision(precision: str) -> str:
    """Checks and returns a precision.

    Raises:
        ValueError: If it is unknown.
    """
    if precision not in PRECISIONS:
        raise DetNASError(f'precision must be one of {", ".join(PRECISIONS)}; got {precision!r}.')
    return precision


@contextlib.contextmanager
def numerics(model: nn.Module, precision: str = 'fp32', channels_last: bool = False) -> Iterator[None]:
    """Runs a model's forward passes under autocast and with channels_last weights, inside the block.

    Weights stay in float32, and so do recalibrated BN statistics, RoI heads and the decoding of boxes: in half
    precision boxes of large images would be a pixel off, and not every device has the operators.

    Args:
        model: The model.
        precision: ``'fp32'``, ``'fp16'`` or ``'bf16'``.
        channels_last: Whether weights of convolutions, and so activations, are in channels_last format.
    """
    device = next(model.parameters()).device.type
    with contextlib.ExitStack() as stack:
        if channels_last:
            stack.callback(to_channels_last(model))
        if precision != 'fp32':
            stack.enter_context(torch.autocast(device, PRECISIONS[precision]))
            for name, module in model.named_modules():
                methods = ('predict', 'loss') if name == 'roi_head' else ('predict_by_feat', 'loss_by_feat')
                for method in methods:
                    if hasattr(module, method):
                        full = _in_float32(getattr(module, method), device)
                        stack.enter_context(replaced(module, method, full))
        yield


def _in_float32(method: Callable[..., Any], device: str) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device, enabled=False):
            return method(*_float32(args), **_float32(kwargs))

    return run


def _float32(value: Any) -> Any:
    """Converts half-precision tensors inside tuples, lists and dicts to float32."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    if type(value) in (tuple, list):
        return type(value)(map(_float32, value))
    return {key: _float32(one) for key, one in value.items()} if type(value) is dict else value
