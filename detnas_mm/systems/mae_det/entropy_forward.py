"""Entropy of a real net, by running noise through it: the check of the closed form, and for any torch backbone.

Not imported with the package's evaluators: it needs torch, and a search does not need it.
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

#: Functions that pass their first argument on as it is: norms, activations, dropout.
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
    """A feature map that knows how many convolutions it has passed, and the sum of their ln standard deviations."""

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
        if func in _SUMS and len(maps) == 2:  # a shortcut: the branch with more convolutions goes on alone
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
                if func in _LINEAR:  # left out
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
    """Whether a map is added to or multiplied by a net's own tensor, such as a bias or a layer's scale."""
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
    """Entropy of every feature map of a net as MAE-DET's authors measured it in 2022: noise is run through it.

    Weights and input come from N(0, 1) anew in every repeat. Norms, activations and dropout pass their input on,
    biases and learned scales are left out, of two branches that are added the one with more convolutions goes on alone,
    and every convolution's output is divided by its standard deviation. Linear layers have such weights, too, and such
    an output, and do not count. Gates that a net computes (squeeze-and-excitation) multiply their map as in the net.
    The net's own weights are neither used nor changed.

    Args:
        backbone: Returns one feature map or several; its convolutions are ``torch.nn.Conv2d``.
        input_size: (height, width) in pixels.
        repeats: How many times; the mean is returned.
        batch_size: Images at a time.
        seed: Of the noise; torch's global generators are left as they were.
        in_channels: Channels of the images. Defaults to what a backbone of this package says, else 3.

    Returns:
        For every map: the sum of ln standard deviations on the way, plus ln channels.

    Raises:
        ValueError: If a number does not fit, a map has passed no convolution, or holds a single number.
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
                    raise DetNASError(f'A map that {type(backbone).__name__} returns has passed no convolution.')
                sums = sums or [0.0] * len(maps)
                sums = [old + one.entropy + math.log(one.shape[1]) for old, one in zip(sums, maps, strict=True)]
    if not all(map(math.isfinite, sums)):
        raise DetNASError(
            f'A map of {type(backbone).__name__} is a single number at {height}x{width}, which has no '
            f'standard deviation: give larger images.'
        )
    return [total / repeats for total in sums]


def forward_entropy(backbone: nn.Module, weights: Sequence[float], *args: Any, **kwargs: Any) -> float:
    """Multi-scale entropy of a net: the sum of weight * entropy over its maps.

    Args:
        backbone: See :func:`map_entropies`.
        weights: One for every map that it returns.
        *args: See :func:`map_entropies`, like all that follow.
        **kwargs: See there.

    Raises:
        ValueError: If the number of weights is not that of the maps, or a number does not fit.
    """
    weights = checked_weights(weights)
    found = map_entropies(backbone, *args, **kwargs)
    if len(found) != len(weights):
        raise DetNASError(
            f'There are {len(weights)} weights {weights}, and {len(found)} feature maps that '
            f'{type(backbone).__name__} returns: give one a map.'
        )
    return sum(weight * entropy for weight, entropy in zip(weights, found, strict=True))
