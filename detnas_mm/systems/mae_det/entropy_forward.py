"""Entropy of any torch backbone, measured by forward passes of noise; verifies the closed form.

Searches do not use it, so evaluators do not import it: it loads torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detnas_mm.checks import checked_input_size
from detnas_mm.errors import DetNASError
from detnas_mm.models import image_channels
from detnas_mm.models.modes import kept_modes
from detnas_mm.systems.mae_det.entropy import checked_weights

#: Functions that are replaced by the identity: norms, activations, dropout.
_PASSED = {
    F.batch_norm, torch.batch_norm, F.group_norm, F.layer_norm, F.instance_norm, F.relu, F.relu_, torch.relu,
    torch.relu_, Tensor.relu, Tensor.relu_, F.relu6, F.hardswish, F.hardtanh, F.silu, F.gelu, F.leaky_relu, F.dropout,
    F.dropout2d,
}  # fmt: skip
_SUMS = {torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__iadd__, Tensor.__radd__}
_PRODUCTS = {torch.mul, Tensor.mul, Tensor.mul_, Tensor.__mul__, Tensor.__imul__, Tensor.__rmul__}
_CONVS = {torch.conv2d, F.conv2d}
_LINEAR = {F.linear}


class _Noise(Tensor):
    """A feature map with the number of convolutions before it and the sum of their ln standard deviations."""

    convs: int
    entropy: float

    @classmethod
    def __torch_function__(
        cls, func: Callable, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        maps = [value for value in _flat((args, tuple(kwargs.values()))) if isinstance(value, _Noise)]
        if func in _PASSED:
            return maps[0]
        if func in _SUMS and len(maps) == 2:  # a shortcut: keep only the branch with more convolutions
            return max(maps, key=lambda one: one.convs)
        if func in _SUMS | _PRODUCTS and len(maps) == 1 and _is_learned(args, maps[0]):
            return maps[0]
        with torch._C.DisableTorchFunctionSubclass():
            if func in _CONVS | _LINEAR:
                args = (args[0], torch.randn_like(args[1]), None, *args[3:])
                kwargs = {key: value for key, value in kwargs.items() if key != 'bias'}
            result = func(*args, **kwargs)
            deepest = max(maps, key=lambda one: one.convs)
            if func in _CONVS | _LINEAR:
                std = result.std(unbiased=False)
                if func in _LINEAR:  # not counted
                    return _noise(result / std, deepest.convs, deepest.entropy)
                return _noise(result / std, deepest.convs + 1, deepest.entropy + float(std.log()))
        if isinstance(result, Tensor):
            return _noise(result, deepest.convs, deepest.entropy)
        if isinstance(result, (tuple, list)):
            return type(result)(
                _noise(one, deepest.convs, deepest.entropy) if isinstance(one, Tensor) else one for one in result
            )
        return result


def _noise(data: Tensor, convs: int, entropy: float) -> _Noise:
    found = data.as_subclass(_Noise)
    found.convs, found.entropy = convs, entropy
    return found


def _is_learned(args: Sequence[Any], feature_map: Tensor) -> bool:
    """Returns True if the other operand is a parameter of the net, such as a bias or a layer scale."""
    others = [value for value in args if isinstance(value, Tensor) and value is not feature_map]
    return len(others) == 1 and torch.broadcast_shapes(others[0].shape, feature_map.shape) == feature_map.shape


def _flat(values: Any) -> list[Any]:
    if isinstance(values, (list, tuple)):
        return [one for value in values for one in _flat(value)]
    return [values]


@torch.no_grad()
def map_entropies(
    backbone: nn.Module,
    input_size: int | Sequence[int] = 64,
    repeats: int = 4,
    batch_size: int = 1,
    seed: int = 0,
    in_channels: int | None = None,
) -> list[float]:
    """Measures the entropy of every feature map by forward passes of noise, as MAE-DET's authors did in 2022.

    Weights and input are drawn from N(0, 1), again for every repeat. Norms, activations and dropout are replaced by the
    identity, biases and learned scales are ignored, a sum of two branches is replaced by the branch with more
    convolutions, and every convolution's output is divided by its standard deviation. Linear layers are treated like
    convolutions but not counted. Gates that a net computes (squeeze-and-excitation) are applied as in the net. The
    net's own weights are neither used nor changed.

    Args:
        backbone: Returns one feature map or several; its convolutions are ``torch.nn.Conv2d``.
        input_size: (height, width) in pixels.
        repeats: Number of repeats; the mean is returned.
        batch_size: Images per forward pass.
        seed: Seed of the noise; torch's global generators keep their states.
        in_channels: Channels of the images. Defaults to that of a backbone of this package, else 3.

    Returns:
        For every map: the sum of the ln standard deviations of all convolutions before it, plus ln channels.

    Raises:
        ValueError: If an argument is invalid, or a map depends on no convolution or is a single number.
    """
    height, width = checked_input_size(input_size)
    if not all(isinstance(count, int) and count >= 1 for count in (repeats, batch_size)):
        raise DetNASError(f'repeats and batch_size must be integers of at least 1; got {repeats} and {batch_size}.')
    channels = in_channels or image_channels(backbone)
    parameter = next(backbone.parameters(), torch.zeros(1))
    sums: list[float] = []
    with kept_modes(backbone):
        backbone.eval()
        with torch.random.fork_rng([parameter.device] if parameter.is_cuda else []):
            torch.manual_seed(seed)
            for _ in range(repeats):
                images = torch.randn(batch_size, channels, height, width, device=parameter.device)
                maps = backbone(_noise(images, 0, 0.0))
                maps = [maps] if isinstance(maps, Tensor) else list(maps)
                if not all(isinstance(one, _Noise) and one.convs for one in maps):
                    raise DetNASError(
                        f'A feature map that {type(backbone).__name__} returns depends on no torch.nn.Conv2d, so it '
                        f'has no entropy: return only feature maps of convolutions.'
                    )
                sums = sums or [0.0] * len(maps)
                sums = [old + one.entropy + math.log(one.shape[1]) for old, one in zip(sums, maps, strict=True)]
    if not all(map(math.isfinite, sums)):
        raise DetNASError(
            f'A feature map of {type(backbone).__name__} is a single number for input_size {height}x{width}, which has '
            f'no standard deviation: use a larger input_size.'
        )
    return [total / repeats for total in sums]


def forward_entropy(backbone: nn.Module, weights: Sequence[float], *args: Any, **kwargs: Any) -> float:
    """Measures the multi-scale entropy of a net: the sum of weight * entropy over its maps.

    Args:
        backbone: See :func:`map_entropies`.
        weights: One for every map that it returns.
        *args: Further arguments of :func:`map_entropies`.
        **kwargs: Likewise.

    Raises:
        ValueError: If the number of weights is not that of the maps, or an argument is invalid.
    """
    weights = checked_weights(weights)
    found = map_entropies(backbone, *args, **kwargs)
    if len(found) != len(weights):
        raise DetNASError(
            f'weights {weights} has {len(weights)} entries; {type(backbone).__name__} returns {len(found)} feature '
            f'maps. Give one weight per map.'
        )
    return sum(weight * entropy for weight, entropy in zip(weights, found, strict=True))
