"""Counts MACs, parameters and memory on the real network; tables are tested against these. Imports torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from detnas_mm.checks import checked_input_size
from detnas_mm.models import image_channels
from detnas_mm.models.modes import kept_modes

aten = torch.ops.aten
#: Products of matrices, of which linear layers consist.
_PRODUCTS = (aten.mm, aten.addmm, aten.bmm, aten.baddbmm)


def count_macs(
    module: nn.Module,
    input_size: int | Sequence[int] = (224, 224),
    with_linear: bool = False,
    in_channels: int | None = None,
) -> int:
    """Counts the multiply-adds of the convolutions in one forward pass, without biases and norms.

    Operators are counted, not modules: a module that runs several convolutions, or uses a part of its weights, counts
    with what it runs. Convolutions are those of torch, of any dimension; a transposed one counts its weights once for
    each position of its input.

    The pass runs on torch's meta device, with shapes alone: it takes no memory and does not change the module, whatever
    device that is on. A module that makes tensors on a fixed device in its forward cannot be counted.

    Args:
        module: Takes images of shape (1, in_channels, h, w). Of a supernet the active path is counted.
        input_size: (height, width) in pixels.
        with_linear: Count linear layers too: products of matrices of which one is a weight. Attention is not counted.
        in_channels: Defaults to those of the backbone, if it is of this package, else 3.

    Returns:
        Multiply-adds for one image.
    """
    watch = _Products(with_linear)
    _run_shapes(module, input_size, in_channels, watch)
    return watch.total


def count_peak_memory(
    module: nn.Module, input_size: int | Sequence[int] = (224, 224), in_channels: int | None = None
) -> int:
    """Counts the bytes of feature maps that exist at one time, at most, in a forward pass without gradients.

    After every operator, the storages that still exist are added up. Feature maps are tensors of four dimensions, the
    image among them; weights and an operator's own work space are not counted. As for :func:`count_macs` the pass runs
    on torch's meta device, in evaluation mode.

    Args:
        module: Takes images of shape (1, in_channels, h, w), float32. Of a supernet the active path is counted.
        input_size: (height, width) in pixels.
        in_channels: See :func:`count_macs`.

    Returns:
        Bytes.
    """
    watch = _LivingFeatureMaps()
    _run_shapes(module, input_size, in_channels, watch)
    return watch.peak


def count_detector_macs(detector: nn.Module, input_size: int | Sequence[int], in_channels: int | None = None) -> int:
    """Counts the multiply-adds of the convolutions and linear layers of a whole mmdet detector, for one image.

    Counted are backbone, neck and dense head; in two-stage detectors also the RoI head, on the largest number of
    proposals, in every stage of a cascade. Deformable convolutions count as ordinary ones; RoIAlign, NMS and everything
    without weights count as nothing. As for :func:`count_macs` no memory is needed.

    Args:
        detector: A single-stage or two-stage detector of boxes.
        input_size: (height, width) in pixels.
        in_channels: See :func:`count_macs`.

    Raises:
        ValueError: If it is a detector of another kind.
    """
    from detnas_mm.cost.detector import AllLayers  # nothing else here needs mmdet

    return count_macs(AllLayers(detector), input_size, with_linear=True, in_channels=in_channels)


class _Watch(TorchDispatchMode):
    """Observes every operator of a forward pass, and its result."""

    _derived: list[Any]

    def begin(self, weights: Iterable[Tensor], image: Tensor) -> None:
        """Takes the module's weights and the input image, before the pass."""
        self._weights = {tensor.untyped_storage()._cdata for tensor in weights}
        self._derived = []

    def is_weight(self, tensor: Tensor) -> bool:
        """Returns True if a tensor is a weight, a view of one, or computed from weights alone without a product."""
        return tensor.untyped_storage()._cdata in self._weights

    @abstractmethod
    def see(self, kind: Any, args: Sequence[Any], out: Any) -> None:
        """Records an operator, such as ``aten.convolution``, after it ran."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [one for one in tree_leaves(args) if isinstance(one, Tensor)]
        if tensors and func.overloadpacket not in _PRODUCTS and all(map(self.is_weight, tensors)):
            for one in tree_leaves(out):
                if isinstance(one, Tensor):
                    storage = one.untyped_storage()
                    self._derived.append(storage)  # otherwise another tensor might get its address
                    self._weights.add(storage._cdata)
        self.see(func.overloadpacket, args, out)
        return out


class _Products(_Watch):
    """Adds up the multiply-adds of convolutions and, with ``with_linear``, of linear layers."""

    def __init__(self, with_linear: bool) -> None:
        super().__init__()
        self.total = 0
        self._with_linear = with_linear

    def see(self, kind: Any, args: Sequence[Any], out: Any) -> None:
        if kind is aten.convolution:
            image, weight, *_, transposed, _, _ = args
            self.total += (image if transposed else out).numel() * weight[0].numel()
        elif self._with_linear and kind in _PRODUCTS:
            first, second = args[-2:]
            if self.is_weight(first) or self.is_weight(second):
                self.total += out.numel() * first.shape[-1]


class _LivingFeatureMaps(_Watch):
    """Records the largest number of bytes of feature maps that existed at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._living: dict[int, tuple[StorageWeakRef, int]] = {}

    def begin(self, weights: Iterable[Tensor], image: Tensor) -> None:
        super().begin(weights, image)
        self._note(image)

    def see(self, kind: Any, args: Sequence[Any], out: Any) -> None:
        self._note(out)

    def _note(self, found: Any) -> None:
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor) and tensor.ndim == 4 and not self.is_weight(tensor):
                storage = tensor.untyped_storage()
                self._living[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self._living = {key: living for key, living in self._living.items() if not living[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._living.values()))


def _run_shapes(module: nn.Module, input_size: int | Sequence[int], in_channels: int | None, watch: _Watch) -> None:
    """Runs a module on the meta device, in evaluation mode, without changing it."""
    height, width = checked_input_size(input_size)
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    # in inference mode torch would hide the operators that composite ones consist of; leaving it enables gradients
    with torch.inference_mode(False), torch.no_grad(), kept_modes(module):
        shapes = {name: tensor.detach().to('meta') for name, tensor in tensors.items()}
        image = torch.empty(1, in_channels or image_channels(module), height, width, device='meta')
        watch.begin(shapes.values(), image)
        module.eval()
        with watch:
            functional_call(module, shapes, (image,))


def count_params(module: nn.Module) -> int:
    """Counts the parameters of a module, frozen ones included; of a supernet those of all choices."""
    return sum(parameter.numel() for parameter in module.parameters())
