"""How paths are drawn in supernet training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from detnas_mm.cost import MacsTable
from detnas_mm.errors import ChecksInput, DetNASError
from detnas_mm.registry import PATH_SAMPLERS
from detnas_mm.search import UnmeetableConstraint
from detnas_mm.spaces import Architecture, DetNASSpace, SearchSpace


class PathSampler(ChecksInput, ABC):
    """Draws the path of a training step as a function of (seed, step)."""

    space: SearchSpace

    def setup(self, space: SearchSpace) -> None:
        """Called once before the first draw."""
        self.space = space

    def sample(self, seed: int, step: int) -> Architecture:
        """The path of one optimiser step: equal for equal (seed, step), on every machine."""
        return self.draw(np.random.default_rng([seed, step]))

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Architecture:
        """Draws the path of one step."""

    def __str__(self) -> str:
        return type(self).__name__


@PATH_SAMPLERS.register_module()
class UniformPathSampler(PathSampler):
    """Every choice of every block with equal probability (paper, section 3.2, step 1)."""

    def draw(self, rng: np.random.Generator) -> Architecture:
        return self.space.sample(rng)


@PATH_SAMPLERS.register_module()
class MacsBinPathSampler(PathSampler):
    """Uniform over bins of MACs, then uniform over the paths in the bin: the authors' ImageNet script.

    Args:
        low: Lower end of the range, in multiply-adds.
        high: Upper end of the range.
        bin_width: Width of a bin. Defaults to 10M, as the authors'.
        input_size: (height, width) at which MACs are counted.
        with_classifier: Number of classes, to count the last convolution and the classifier as the authors do;
            0 counts the backbone alone.
        max_attempts: Paths drawn before giving up on a bin.

    Raises:
        ValueError: If the range holds no bin.
        UnmeetableConstraint: If a bin cannot be hit.
    """

    def __init__(
        self,
        low: float = 290e6,
        high: float = 360e6,
        bin_width: float = 10e6,
        input_size: Sequence[int] = (224, 224),
        with_classifier: int = 1000,
        max_attempts: int = 100_000,
    ) -> None:
        if not (0 <= low < high and bin_width > 0):
            raise DetNASError(f'Need 0 <= low < high and bin_width > 0; got {low}, {high}, {bin_width}.')
        self.low, self.high, self.bin_width = low, high, bin_width
        self.bins = max(1, round((high - low) / bin_width))
        self.input_size = input_size
        self.with_classifier = with_classifier
        self.max_attempts = max_attempts

    def setup(self, space: SearchSpace) -> None:
        super().setup(space)
        if not isinstance(space, DetNASSpace):
            raise DetNASError(f'MacsBinPathSampler counts MACs of a DetNASSpace; got {type(space).__name__}.')
        self.table = MacsTable(space, self.input_size, self.with_classifier)
        smallest, largest = self.table.bounds()
        edges = np.linspace(self.low, self.high, self.bins + 1)
        if edges[1] <= smallest or edges[-2] > largest:
            raise UnmeetableConstraint(
                f'The outer MAC bins of {self.low:,.0f}–{self.high:,.0f} hold no path: this space has {smallest:,} to '
                f'{largest:,} ({self.table.scope}). Change low and high.'
            )

    def draw(self, rng: np.random.Generator) -> Architecture:
        chosen = rng.integers(self.bins)
        low = self.low + (self.high - self.low) / self.bins * chosen
        high = self.low + (self.high - self.low) / self.bins * (chosen + 1)
        for _ in range(0, self.max_attempts, 64):
            paths = self.space.sample_many(rng, 64)
            macs = self.table.totals(self.space.encode(paths))
            hits = np.flatnonzero((macs >= low) & (macs < high))
            if len(hits):
                return paths[hits[0]]
        smallest, largest = self.table.bounds()
        raise UnmeetableConstraint(
            f'No path among {self.max_attempts:,} drawn has {low:,.0f} to {high:,.0f} MACs ({self.table.scope}); this '
            f'space has {smallest:,} to {largest:,}. Change low and high.'
        )

    def __str__(self) -> str:
        return f'MacsBinPathSampler ({self.bins} bins in {self.low:,.0f}–{self.high:,.0f} {self.table.scope})'
