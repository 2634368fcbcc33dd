"""Search spaces with one choice at each position."""

from __future__ import annotations

import math
from abc import abstractmethod

import numpy as np

from detnas_mm.spaces.architecture import Architecture
from detnas_mm.spaces.base import SearchSpace


class ChoiceSpace(SearchSpace):
    """A space whose genes are choice ids: position i takes one of ``choices[i]`` ids, independently of the others.

    Tables of costs and latencies have one row for each position and one column for each id.
    """

    @property
    @abstractmethod
    def choices(self) -> tuple[int, ...]:
        """Number of choices at each position."""

    @property
    def size(self) -> int:
        return math.prod(self.choices)

    def sample_ids(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draws ``count`` architectures uniformly, as an integer array of shape (count, positions)."""
        choices = self.choices
        highest = choices[0] if len(set(choices)) == 1 else np.array(choices)
        return rng.integers(highest, size=(count, len(choices)))

    def sample(self, rng: np.random.Generator) -> Architecture:
        return Architecture(tuple(self.sample_ids(rng, 1)[0].tolist()))

    def sample_many(self, rng: np.random.Generator, count: int) -> list[Architecture]:
        return [Architecture(tuple(ids)) for ids in self.sample_ids(rng, count).tolist()]

    def mutate(self, arch: Architecture, rng: np.random.Generator, prob: float) -> Architecture:
        """Redraws each position with probability ``prob``, uniformly over all its ids."""
        genes = np.array(arch.genes)
        hit = rng.random(len(genes)) < prob
        return Architecture(tuple(np.where(hit, self.sample_ids(rng, 1)[0], genes).tolist()))

    def crossover(self, first: Architecture, second: Architecture, rng: np.random.Generator) -> Architecture:
        """Crosses uniformly: each position comes from either parent with equal probability."""
        pick = rng.random(len(self.choices)) < 0.5
        return Architecture(tuple(np.where(pick, first.genes, second.genes).tolist()))
