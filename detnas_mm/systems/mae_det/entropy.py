"""Entropy of many structures in closed form (Sun et al., MAE-DET, ICML 2022, section 4).

With weights and input from N(0, 1), without BN, ReLU and shortcuts, and every convolution's output divided by its
standard deviation, a convolution adds half the logarithm of its fan-in c_in * k * k.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from detnas_mm.errors import DetNASError
from detnas_mm.spaces.images import RGB
from detnas_mm.systems.mae_det.blocks import BlockSum, Columns, Place, columns

#: Weights of the stages: stem, C2, C3, C4, C5 (the authors' code).
WEIGHTS = (0, 0, 1, 1, 6)


def checked_weights(weights: Any) -> tuple[float, ...]:
    """Validates stage weights and returns them as floats.

    Raises:
        ValueError: If one is not a finite number of at least 0, or all are 0.
    """
    listed = weights.tolist() if isinstance(weights, np.ndarray) else weights
    found = tuple(listed) if isinstance(listed, (list, tuple)) else ()
    if not all(type(w) in (int, float) and 0 <= w < float('inf') for w in found) or not any(found):
        raise DetNASError(
            f'weights must be numbers of at least 0, one per stage, not all 0, such as {WEIGHTS}; got {weights!r}.'
        )
    return tuple(map(float, found))


def check_stages(weights: Sequence[float], strides: Sequence[int]) -> None:
    """Checks that there is one weight per stage; ``strides`` begins with the stem's.

    Raises:
        ValueError: If not; names the number of stages.
    """
    count = 1 + sum(stride == 2 for stride in strides[1:])
    if len(weights) != count:
        raise DetNASError(
            f'weights {tuple(weights)} has {len(weights)} entries; structures with strides {tuple(strides)} have '
            f'{count} stages (the stem, and one for every block of stride 2). Give one weight per stage.'
        )


class EntropySum(BlockSum):
    """The multi-scale entropy as a sum over blocks: sum of r_i * S_i.

    S_i is the sum of all convolutions' entropies from the stem to the end of stage i, plus ln C_i. So the weight of a
    convolution in stage s is the sum of r_i over i >= s.

    Args:
        weights: r_i, see :data:`WEIGHTS`.
        strides: Strides of the stem and of every super-block.
        in_channels: Channels of the images.

    Raises:
        ValueError: If the number of weights is not the number of stages.
    """

    input_size = (1, 1)

    def __init__(self, weights: Sequence[float], strides: Sequence[int], in_channels: int = RGB) -> None:
        check_stages(weights, strides)
        self.in_channels = in_channels
        self.weights = weights
        self.reach = np.cumsum(np.asarray(weights, dtype=float)[::-1])[::-1].tolist()

    def stem(self, place: Place, width: np.ndarray, kernel: int) -> np.ndarray:
        own = self.reach[0] * 0.5 * np.log(self.in_channels * kernel**2)
        return own + (self.weights[0] * np.log(width) if place.ends_stage else np.zeros(np.shape(width)))

    def first(
        self, place: Place, cin: np.ndarray, cout: np.ndarray, kernel: np.ndarray, bottleneck: np.ndarray
    ) -> np.ndarray:
        own = self.reach[place.stage] * (0.5 * np.log(cin) + np.log(bottleneck * kernel))
        return own + (self.weights[place.stage] * np.log(cout) if place.ends_stage else 0.0)

    def rest(self, place: Place, cout: np.ndarray, kernel: np.ndarray, bottleneck: np.ndarray) -> np.ndarray:
        return self.reach[place.stage] * (0.5 * np.log(cout) + np.log(bottleneck * kernel))


def entropies(
    codes: np.ndarray, weights: Sequence[float], input_size: tuple[int, int] | None = None, in_channels: int = RGB
) -> np.ndarray:
    """Returns the entropies of many structures, as :meth:`EntropySum.totals` but faster.

    With ``input_size``, zero padding is taken into account: near borders a kernel covers fewer inputs. With independent
    weights, the variance of a map is the product of a profile along each axis, and a k x k convolution applies a
    one-dimensional box filter of k places to each profile. So k * k is replaced by the product of the two mean gains.

    Args:
        codes: Integers of shape (candidates, 3 + 5 blocks), see :mod:`detnas_mm.systems.mae_det.structure`.
        weights: One per stage.
        input_size: (height, width) in pixels; None ignores borders.
        in_channels: Channels of the images.

    Returns:
        Shape (candidates,).

    Raises:
        ValueError: If the number of weights is not that of the stages.
    """
    out = np.empty(len(codes))
    for rows, genes in columns(codes):
        check_stages(weights, genes.strides)
        reach = np.cumsum(np.asarray(weights, dtype=float)[::-1])[::-1]
        stem, *places = genes.places((1, 1))
        logs = [np.log(width) for width in genes.widths]
        stem_gain, gains = _plain_gains(genes) if input_size is None else _padded_gains(genes, input_size)
        total = reach[0] * 0.5 * (np.log(in_channels) + stem_gain)
        if stem.ends_stage and weights[0]:
            total = total + weights[0] * logs[0]
        for b, place in enumerate(places):
            depth = genes.depths[b]
            inner = 0.5 * (logs[b] + (depth - 1) * logs[b + 1]) + depth * np.log(genes.bottlenecks[b]) + 0.5 * gains[b]
            total = total + reach[place.stage] * inner
            if place.ends_stage and weights[place.stage]:
                total = total + weights[place.stage] * logs[b + 1]
        out[rows] = total
    return out


def _plain_gains(genes: Columns) -> tuple[float, list[np.ndarray]]:
    """Returns ln(k * k) of the stem, and its sum over the bottlenecks of every block."""
    gains = [2 * depth * np.log(kernel) for depth, kernel in zip(genes.depths, genes.kernels, strict=True)]
    return 2 * np.log(genes.stem_kernel), gains


def _padded_gains(genes: Columns, input_size: tuple[int, int]) -> tuple[float, list[np.ndarray]]:
    """Returns the same with borders; structures with equal kernels and depths are computed once."""
    table = np.stack([*genes.kernels, *genes.depths], axis=1)
    kinds, inverse = np.unique(table, axis=0, return_inverse=True)
    kernels, depths = np.split(kinds, 2, axis=1)
    axes = [_axis_gains(length, genes.stem_kernel, genes.strides, kernels, depths) for length in input_size]
    both = (axes[0][1] + axes[1][1])[inverse.ravel()]
    return axes[0][0] + axes[1][0], list(both.T)


def _axis_gains(
    length: int, stem_kernel: int, strides: Sequence[int], kernels: np.ndarray, depths: np.ndarray
) -> tuple[float, np.ndarray]:
    """Returns the logarithms of mean gains along one axis, for the stem and every block, shape (kinds, blocks)."""
    profile, gain = _box(np.ones((len(kernels), length)), stem_kernel, strides[0])
    stem_gain = float(np.log(gain[0]))
    gains = np.zeros(kernels.shape)
    for b, stride in enumerate(strides[1:]):
        after = np.empty((len(kernels), -(-profile.shape[1] // stride)))
        for kernel in np.unique(kernels[:, b]):
            rows = np.flatnonzero(kernels[:, b] == kernel)
            after[rows], gain = _box(profile[rows], kernel, stride)
            gains[rows, b] = np.log(gain)
            for number in range(1, int(depths[rows, b].max())):
                rows = rows[depths[rows, b] > number]
                after[rows], gain = _box(after[rows], kernel, 1)
                gains[rows, b] += np.log(gain)
        profile = after
    return stem_gain, gains


def _box(profile: np.ndarray, kernel: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Applies a zero-padded box filter of size ``kernel``; returns (the result divided by its mean, the mean)."""
    length, half = profile.shape[1], kernel // 2
    sums = np.zeros((len(profile), length + 1))
    np.cumsum(profile, axis=1, out=sums[:, 1:])
    centres = np.arange(0, length, stride)
    found = sums[:, np.minimum(centres + half + 1, length)] - sums[:, np.maximum(centres - half, 0)]
    mean = found.mean(axis=1)
    return found / mean[:, None], mean


def stage_sums(
    genes: Columns, input_size: tuple[int, int], channel_exponent: float, kernel_exponent: float, in_channels: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray, tuple[int, int]]]:
    """Yields for every stage: its number, the entropy of all convolutions up to its end, width and (height, width).

    Args:
        genes: Structures that share their strides.
        input_size: (height, width) of the images.
        channel_exponent: Weight of ln c_in.
        kernel_exponent: Weight of ln k * k.
        in_channels: Channels of the images.
    """
    stem, *others = genes.places(input_size)
    sums = 0.5 * (channel_exponent * np.log(in_channels) + 2 * kernel_exponent * np.log(genes.stem_kernel))
    entropy = np.full(len(genes.widths[0]), sums)
    if stem.ends_stage:
        yield stem.stage, entropy, genes.widths[0], stem.size
    for b, place in enumerate(others):
        depth = genes.depths[b]
        inputs = np.log(genes.widths[b]) + (depth - 1) * np.log(genes.widths[b + 1])
        inputs = inputs + 2 * depth * np.log(genes.bottlenecks[b])
        kernels = 2 * depth * np.log(genes.kernels[b])
        entropy = entropy + 0.5 * (channel_exponent * inputs + kernel_exponent * kernels)
        if place.ends_stage:
            yield place.stage, entropy, genes.widths[b + 1], place.size
