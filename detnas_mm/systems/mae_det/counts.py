"""Costs of structures: parameters, multiply-adds, layers, and FLOPs as the authors of MAE-DET count them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detnas_mm.checks import checked_input_size
from detnas_mm.cost.base import CostModel
from detnas_mm.registry import COSTS
from detnas_mm.systems.mae_det.blocks import BlockSum, Place, columns
from detnas_mm.systems.mae_det.space import MAEDetSpace
from detnas_mm.systems.mae_det.structure import read_structure


class StructureCost(BlockSum, CostModel):
    """Base of the costs of structures; a cost must not decrease in any gene.

    Args:
        space: A :class:`MAEDetSpace` or its first argument; determines the bounds and the channels of the images.
        input_size: (height, width) in pixels.
    """

    name: str
    what: str

    def __init__(
        self,
        space: MAEDetSpace | str | Mapping[str, Any] = 'authors',
        input_size: int | Sequence[int] = (480, 480),
    ) -> None:
        self.space = MAEDetSpace(space)
        self.input_size = checked_input_size(input_size)
        self.scope = f'{self.what}, backbone, at {self.input_size[0]}x{self.input_size[1]}'

    def spec(self) -> dict[str, Any]:
        return dict(type=type(self).__name__, input_size=list(self.input_size))

    def bounds(self) -> tuple[float, float]:
        low, high = self.totals(self.space.encode([self.space.smallest(), self.space.largest()])).tolist()
        return low, high

    def total(self, arch: Any) -> Any:
        """Returns the cost of one structure, in any form that :func:`read_structure` accepts."""
        return self.totals(np.array([read_structure(arch, self.space.in_channels).genes]))[0].item()


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


@COSTS.register_module()
class StructureMacs(StructureCost):
    """Multiply-adds of the convolutions, which have no biases; BN is not counted."""

    name, what = 'macs', 'multiply-adds of convolutions'

    def stem(self, place: Place, width: np.ndarray, kernel: int) -> np.ndarray:
        return _area(place.size) * self.space.in_channels * kernel**2 * width

    def first(
        self, place: Place, cin: np.ndarray, cout: np.ndarray, kernel: np.ndarray, bottleneck: np.ndarray
    ) -> np.ndarray:
        inner = kernel**2 * bottleneck**2 + bottleneck * cout + cin * cout
        return _area(place.size_in) * cin * bottleneck + _area(place.size) * inner

    def rest(self, place: Place, cout: np.ndarray, kernel: np.ndarray, bottleneck: np.ndarray) -> np.ndarray:
        return _area(place.size) * (2 * cout * bottleneck + kernel**2 * bottleneck**2)


@COSTS.register_module()
class StructureFlops(StructureMacs):
    """FLOPs as the authors' code counts them.

    The multiply-adds of convolutions, plus per element 2 for the output of a BN, 1 for a ReLU, 1 for the input of an
    average pool and 1 for a shortcut projection. Their ResNet-50 budget is 188e8 in this count, at 480x480.
    """

    name, what = 'flops', "FLOPs in the authors' count"

    def stem(self, place: Place, width: np.ndarray, kernel: int) -> np.ndarray:
        return super().stem(place, width, kernel) + 3 * _area(place.size) * width

    def first(
        self, place: Place, cin: np.ndarray, cout: np.ndarray, kernel: np.ndarray, bottleneck: np.ndarray
    ) -> np.ndarray:
        # BN and ReLU after both inner convolutions; BN of conv3, BN of the projection, the sum, and the last ReLU.
        inner = 3 * (_area(place.size_in) + _area(place.size)) * bottleneck + 6 * _area(place.size) * cout
        pool = _area(place.size_in) * cin if place.stride == 2 else 0
        return super().first(place, cin, cout, kernel, bottleneck) + inner + pool

    def rest(self, place: Place, cout: np.ndarray, kernel: np.ndarray, bottleneck: np.ndarray) -> np.ndarray:
        extra = _area(place.size) * (6 * bottleneck + 3 * cout)
        return super().rest(place, cout, kernel, bottleneck) + extra


@COSTS.register_module()
class StructureParams(StructureCost):
    """Learnable parameters: weights, and scale and shift of every BN."""

    name, what = 'params', 'learnable parameters'

    def __init__(self, space: MAEDetSpace | str | Mapping[str, Any] = 'authors') -> None:
        super().__init__(space, (1, 1))
        self.scope = f'{self.what}, backbone'

    def stem(self, place: Place, width: np.ndarray, kernel: int) -> np.ndarray:
        return (self.space.in_channels * kernel**2 + 2) * width

    def first(
        self, place: Place, cin: np.ndarray, cout: np.ndarray, kernel: np.ndarray, bottleneck: np.ndarray
    ) -> np.ndarray:
        main = (cin + cout + 4) * bottleneck + kernel**2 * bottleneck**2 + 2 * cout
        return main + (cin + 2) * cout

    def rest(self, place: Place, cout: np.ndarray, kernel: np.ndarray, bottleneck: np.ndarray) -> np.ndarray:
        return (2 * cout + 4) * bottleneck + kernel**2 * bottleneck**2 + 2 * cout


@COSTS.register_module()
class StructureLayers(StructureCost):
    """Layers as the authors count them: the stem and three convolutions per bottleneck, without shortcuts."""

    name, what = 'layers', 'convolutions without those of shortcuts'
    per_bottleneck = 3

    def __init__(self, space: MAEDetSpace | str | Mapping[str, Any] = 'authors') -> None:
        super().__init__(space, (1, 1))
        self.scope = f'{self.what}, backbone'

    def stem(self, place: Place, width: np.ndarray, kernel: int) -> np.ndarray:
        return np.ones_like(width)

    def first(
        self, place: Place, cin: np.ndarray, cout: np.ndarray, kernel: np.ndarray, bottleneck: np.ndarray
    ) -> np.ndarray:
        return np.full(np.broadcast(cin, cout, kernel, bottleneck).shape, 3)

    def rest(self, place: Place, cout: np.ndarray, kernel: np.ndarray, bottleneck: np.ndarray) -> np.ndarray:
        return np.full(np.broadcast(cout, kernel, bottleneck).shape, 3)


@COSTS.register_module()
class StructureDepthToWidth(CostModel):
    """Ratio of depth to width (Shen et al., DeepMAD, CVPR 2023, section 3.2); their searches limit it to 0.3.

    For every stage, the number of convolutions from the stem to its end, divided by the geometric mean of their fan-in
    c_in * k * k, without shortcuts; the value is the maximum over the stages.

    Args:
        space: A :class:`MAEDetSpace` or its first argument; determines the bounds and the channels of the images.
    """

    name = 'rho'
    scope = 'depth over mean width, largest of all stages, backbone'

    def __init__(self, space: MAEDetSpace | str | Mapping[str, Any] = 'authors') -> None:
        self.space = MAEDetSpace(space)

    def spec(self) -> dict[str, Any]:
        return dict(type='StructureDepthToWidth')

    def total(self, arch: Any) -> Any:
        """See :meth:`StructureCost.total`."""
        return super().total(read_structure(arch, self.space.in_channels))

    def totals(self, ids: np.ndarray) -> np.ndarray:
        """See :meth:`CostModel.totals`."""
        out = np.zeros(len(ids))
        for rows, genes in columns(ids):
            convs: Any = 1
            width: Any = np.log(self.space.in_channels * genes.stem_kernel**2)
            worst: Any = np.exp(-width)
            for b, place in enumerate(genes.places((1, 1))[1:]):
                depth, inner = genes.depths[b], genes.bottlenecks[b] * genes.kernels[b]
                inputs = np.log(genes.widths[b]) + (depth - 1) * np.log(genes.widths[b + 1])
                convs, width = convs + 3 * depth, width + inputs + 2 * depth * np.log(inner)
                if place.ends_stage:
                    worst = np.maximum(worst, convs * np.exp(-width / convs))
            out[rows] = worst
        return out

    def bounds(self) -> tuple[float, float]:
        """Returns the costs of the shallowest widest and of the deepest narrowest member."""
        small, large = self.space.encode([self.space.smallest(), self.space.largest()])
        deep, shallow = small.copy(), large.copy()
        deep[6::5], shallow[6::5] = large[6::5], small[6::5]
        low, high = sorted(self.totals(np.stack([deep, shallow])).tolist())
        return low, high
