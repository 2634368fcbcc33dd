"""Counting on the real network, by hooks: what the tables must agree with. Imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from detnas_mm.checks import checked_input_size


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
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Linear):
            total += output.numel() * layer.in_features
        else:
            total += output.numel() * cast(Tensor, layer.weight)[0].numel()

    kinds = (nn.Conv2d, nn.Linear) if with_linear else nn.Conv2d
    handles = [layer.register_forward_hook(count) for layer in module.modules() if isinstance(layer, kinds)]
    try:
        _run_shapes(module, input_size)
    finally:
        for handle in handles:
            handle.remove()
    return total


def count_peak_memory(module: nn.Module, input_size: int | Sequence[int] = (224, 224)) -> int:
    """Bytes of feature maps that are alive at one time, at most, in a forward pass without gradients.

    Every operator is watched, and which storages still live after it. Feature maps are tensors of four dimensions, the
    image among them; weights are not counted, nor is an operator's own work space. As for :func:`count_macs` the pass
    runs on torch's meta device, in evaluation mode.

    Args:
        module: Takes images of shape (1, 3, h, w), float32. A supernet is counted on its active path.
        input_size: (height, width) in pixels.

    Returns:
        Bytes.
    """
    watch = _LivingFeatureMaps()
    _run_shapes(module, input_size, watch)
    return watch.peak


class _LivingFeatureMaps(TorchDispatchMode):
    """Remembers how many bytes of feature maps lived at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._living: dict[int, tuple[StorageWeakRef, int]] = {}

    def begin(self, weights: Iterable[Tensor], image: Tensor) -> None:
        """Tells weights, which do not count, from the image, which does."""
        self._weights = {tensor.untyped_storage()._cdata for tensor in weights}
        self._note(image)

    def _note(self, found: Any) -> None:
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor) and tensor.ndim == 4:
                storage = tensor.untyped_storage()
                if storage._cdata not in self._weights:
                    self._living[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self._living = {key: living for key, living in self._living.items() if not living[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._living.values()))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self._note(out)
        return out


@torch.no_grad()
def _run_shapes(module: nn.Module, input_size: int | Sequence[int], watch: _LivingFeatureMaps | None = None) -> None:
    """Runs a module on the meta device, in evaluation mode, and leaves it as it was."""
    height, width = checked_input_size(input_size)
    modes = {layer: layer.training for layer in module.modules()}
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    shapes = {name: tensor.detach().to('meta') for name, tensor in tensors.items()}
    image = torch.empty(1, 3, height, width, device='meta')
    try:
        module.eval()
        if watch is None:
            functional_call(module, shapes, (image,))
        else:
            watch.begin(shapes.values(), image)
            with watch:
                functional_call(module, shapes, (image,))
    finally:
        for layer, mode in modes.items():
            layer.training = mode


def count_params(module: nn.Module) -> int:
    """Parameters of a module, frozen ones too; of a supernet all choices."""
    return sum(parameter.numel() for parameter in module.parameters())
