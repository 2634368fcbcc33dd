"""Path samplers for supernet training."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from detnas_mm.errors import ChecksInput
from detnas_mm.registry import PATH_SAMPLERS
from detnas_mm.spaces import Architecture, SearchSpace


class PathSampler(ChecksInput, ABC):
    """Samples the path of a training step as a function of (seed, step)."""

    space: SearchSpace

    def setup(self, space: SearchSpace) -> None:
        """Sets the space; called once, before the first draw."""
        self.space = space

    def sample(self, seed: int, step: int) -> Architecture:
        """Returns the path of one optimiser step; it depends on (seed, step) only, on every machine."""
        return self.draw(np.random.default_rng([seed, step]))

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Architecture:
        """Draws the path of one step."""

    def __str__(self) -> str:
        return type(self).__name__


@PATH_SAMPLERS.register_module()
class UniformPathSampler(PathSampler):
    """Samples every choice of every block with equal probability (paper, section 3.2, step 1)."""

    def draw(self, rng: np.random.Generator) -> Architecture:
        return self.space.sample(rng)
