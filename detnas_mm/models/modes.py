"""Training and evaluation mode of modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def kept_modes(*modules: nn.Module) -> Iterator[None]:
    """Restores the training or evaluation mode of all submodules after the block, also after an error."""
    modes = {module: module.training for whole in modules for module in whole.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
