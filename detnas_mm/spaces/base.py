"""The interface of a search space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from detnas_mm.spaces.architecture import Architecture


class SearchSpace(ABC):
    """What can be found.

    A space draws, changes, checks and names architectures. It holds no state: whatever is
    random takes a seeded ``numpy.random.Generator``, so that one seed fixes a whole search.
    Check a new one with :func:`detnas_mm.testing.check_search_space`.
    """

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of architectures in the space."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """What defines the space, JSON-ready. Two spaces of equal ``spec`` hold the same architectures."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draws one architecture at random."""

    def sample_many(self, rng: np.random.Generator, count: int) -> list[Architecture]:
        """Draws ``count`` architectures; spaces that can do it faster together override this."""
        return [self.sample(rng) for _ in range(count)]

    @abstractmethod
    def mutate(self, arch: Architecture, rng: np.random.Generator, prob: float) -> Architecture:
        """A copy in which every gene is redrawn with probability ``prob``."""

    @abstractmethod
    def crossover(self, first: Architecture, second: Architecture, rng: np.random.Generator) -> Architecture:
        """A child of two parents."""

    @abstractmethod
    def parse(self, value: Any) -> Architecture:
        """Reads an architecture from what users write (text, a sequence, an :class:`Architecture`).

        Raises:
            ValueError: If the value is no member of the space; names what is wrong and what is allowed.
        """

    @abstractmethod
    def describe(self, arch: Architecture) -> str:
        """The text that people read and that :meth:`parse` reads back."""

    def validate(self, arch: Architecture) -> None:
        """Raises ValueError unless ``arch`` is a member of this space."""
        self.parse(arch)

    def encode(self, archs: Sequence[Architecture]) -> np.ndarray:
        """Genes as an integer array of shape (candidates, genes), for cost tables that add up in bulk."""
        return np.array([arch.genes for arch in archs], dtype=np.int64)
