"""Path sampling as in the authors' ImageNet script."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detnas_mm.engine.path_samplers import PathSampler
from detnas_mm.errors import DetNASError
from detnas_mm.registry import PATH_SAMPLERS
from detnas_mm.search import UnmeetableConstraint
from detnas_mm.spaces import Architecture, SearchSpace
from detnas_mm.systems.detnas.costs import MacsTable
from detnas_mm.systems.detnas.space import DetNASSpace


@PATH_SAMPLERS.register_module()
class MacsBinPathSampler(PathSampler):
    """Draws a bin of MACs uniformly, then a path of that bin uniformly, as the authors' ImageNet script does.

    Args:
        low: Lower end of the range, in multiply-adds.
        high: Upper end of the range.
        bin_width: Width of a bin. Defaults to 10M, as in the authors' script.
        input_size: (height, width) at which MACs are counted.
        with_classifier: Number of classes, to count the last convolution and the classifier as the authors do;
            0 counts only the backbone.
        max_attempts: Largest number of paths drawn for a bin before an error is raised.

    Raises:
        ValueError: If the range contains no bin.
        UnmeetableConstraint: If no drawn path lies in a bin.
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
            raise DetNASError(
                f'low, high and bin_width must satisfy 0 <= low < high and bin_width > 0; got low={low}, high={high}, '
                f'bin_width={bin_width}.'
            )
        self.low, self.high, self.bin_width = low, high, bin_width
        self.bins = max(1, round((high - low) / bin_width))
        self.input_size = input_size
        self.with_classifier = with_classifier
        self.max_attempts = max_attempts

    def setup(self, space: SearchSpace) -> None:
        super().setup(space)
        if not isinstance(space, DetNASSpace):
            raise DetNASError(
                f'MacsBinPathSampler needs a DetNASSpace; got {type(space).__name__}. Use another sampler for it.'
            )
        self.table = MacsTable(space, self.input_size, self.with_classifier)
        smallest, largest = self.table.bounds()
        edges = np.linspace(self.low, self.high, self.bins + 1)
        if edges[1] <= smallest or edges[-2] > largest:
            raise UnmeetableConstraint(
                f'The first or last bin of {self.low:,.0f}–{self.high:,.0f} MACs contains no path: paths of this space '
                f'have {smallest:,} to {largest:,} ({self.table.scope}). Set low and high within that range.'
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
            f'None of {self.max_attempts:,} drawn paths has {low:,.0f} to {high:,.0f} MACs ({self.table.scope}); paths '
            f'of this space have {smallest:,} to {largest:,}. Change low and high, or raise max_attempts.'
        )

    def __str__(self) -> str:
        return f'MacsBinPathSampler ({self.bins} bins in {self.low:,.0f}–{self.high:,.0f} {self.table.scope})'
