"""Three statistics of the error of keeping only nine taps of an enlarged kernel (EDO, CVPR 2021)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detnas_mm.systems.nats.convs import Genotype
from detnas_mm.systems.nats.enlarged import run_taps, taps


class Statistic(ABC):
    """Representation error of one convolution, for every output channel and dilation, accumulated over images.

    Args:
        name: Name of the convolution, for messages.
        conv: A convolution with an enlarged kernel.
        genotypes: The dilations.
    """

    def __init__(self, name: str, conv: nn.Conv2d, genotypes: Sequence[Genotype]) -> None:
        self.name, self.conv, self.genotypes = name, conv, genotypes

    @abstractmethod
    def add(self, x: Tensor, out: Tensor) -> None:
        """Adds a batch of images.

        Args:
            x: Input of the convolution, shape (n, c_in, h, w).
            out: Output of the convolution, shape (n, c_out, h', w').
        """

    @abstractmethod
    def errors(self) -> np.ndarray:
        """Returns the error of every output channel with every dilation, shape (c_out, genotypes), in float64."""


class MeanMap(Statistic):
    """Σ_p |Δ(p)| of the mean input map, in float64; Δ(p) is the error of a channel at position p of the output map.

    The sum includes the borders, where taps outside the map read zeros.
    """

    _sum: Tensor | None = None
    _images = 0

    def add(self, x: Tensor, out: Tensor) -> None:
        """See :meth:`Statistic.add`; all maps must have one size."""
        found = x.sum(0, dtype=torch.float64)
        self._sum = found if self._sum is None else self._sum + found
        self._images += len(x)

    def errors(self) -> np.ndarray:
        assert self._sum is not None
        conv, mean = self.conv, (self._sum / self._images)[None]
        weight = conv.weight.double()
        whole = F.conv2d(mean, weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)
        lost = [(whole - run_taps(conv, mean, weight, genotype)).abs().sum((0, 2, 3)) for genotype in self.genotypes]
        return torch.stack(lost, 1).cpu().numpy()


class MeanChannel(Statistic):
    """|Σ_i μ_i Σ_{u∉d} W[c,i,u]|, with μ the mean over images and positions; ignores borders and positions."""

    _sum: Tensor | None = None
    _positions = 0

    def add(self, x: Tensor, out: Tensor) -> None:
        found = x.sum((0, 2, 3), dtype=torch.float64)
        self._sum = found if self._sum is None else self._sum + found
        self._positions += x[:, 0].numel()

    def errors(self) -> np.ndarray:
        assert self._sum is not None
        weight, groups = self.conv.weight.double(), self.conv.groups
        means = (self._sum / self._positions).view(groups, 1, -1)

        def response(kernels: Tensor) -> Tensor:
            return (kernels.sum((2, 3)).view(groups, -1, means.shape[2]) * means).sum(2).flatten()

        whole = response(weight)
        lost = [(whole - response(taps(weight, genotype))).abs() for genotype in self.genotypes]
        return torch.stack(lost, 1).cpu().numpy()


class Error(Statistic):
    """E Σ_p |Δ(p)|, measured by running every dilation on every image."""

    _sum: Tensor | None = None
    _images = 0

    def add(self, x: Tensor, out: Tensor) -> None:
        lost = [
            (out - run_taps(self.conv, x, self.conv.weight, genotype, self.conv.bias))
            .abs()
            .sum((0, 2, 3), dtype=torch.float64)
            for genotype in self.genotypes
        ]
        found = torch.stack(lost, 1)
        self._sum = found if self._sum is None else self._sum + found
        self._images += len(x)

    def errors(self) -> np.ndarray:
        assert self._sum is not None
        return (self._sum / self._images).cpu().numpy()


#: Statistics by their name in configs.
STATISTICS: dict[str, type[Statistic]] = dict(mean_map=MeanMap, mean_channel=MeanChannel, error=Error)
