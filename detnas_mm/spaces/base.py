"""The interface of a search space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detnas_mm.errors import ChecksInput
from detnas_mm.spaces.architecture import Architecture


class SearchSpace(ChecksInput, ABC):
    """What can be found.

    A space draws, changes, checks and names architectures. It holds no state: whatever is
    random takes a seeded ``numpy.random.Generator``, so that one seed fixes a whole search.
    Check a new one with :func:`detnas_mm.testing.check_search_space`.

    Attributes:
        latency_subject: What is measured for a table of latencies, by its name in
            :data:`~detnas_mm.registry.LATENCY_SUBJECTS`; None where there is no such table.
        in_channels: Channels of the images that its nets take. Where they are a number, backbone and preprocessor of a
            search's config are held against it; None, the default, says nothing and counts as 3.
        exact_strategy: The strategy that finds the best of this space and proves it, by its name in
            :data:`~detnas_mm.registry.STRATEGIES`; None where there is none.
    """

    latency_subject: str | None = None
    in_channels: int | None = None
    exact_strategy: str | None = None

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
        """A copy with changes, more of them the larger ``prob``: none at 0, at 1 all that the space ever makes.

        Where genes are independent, every gene is redrawn with probability ``prob``; where rules tie them together,
        the space says what a change is.
        """

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

    def notes(self) -> list[str]:
        """Returns lines that a search logs of its space when it begins; none by default."""
        return []

    def validate(self, arch: Architecture) -> None:
        """Raises ValueError unless ``arch`` is a member of this space."""
        self.parse(arch)

    def configure(self, cfg: Mapping[str, Any], arch: Architecture) -> dict[str, Any] | None:
        """Returns a copy of a config in which this architecture stands; an ordinary one of mmdet or mmpretrain.

        It sets what belongs to the architecture (of a backbone its type and architecture, and the channels of what
        follows it; of a whole detector its model and pipelines) and keeps everything else.

        Args:
            cfg: As nested dicts, left as it is: the search's own (its supernet is replaced), an ordinary one (its net
                is replaced), or one without a model (then the backbone alone comes out).
            arch: A member of this space.

        Returns:
            Nested dicts; None, the default, where nets of this space are not described by configs.

        Raises:
            ValueError: If the architecture is no member, or does not fit into the config.
        """
        return None

    def check(self, cfg: Mapping[str, Any]) -> None:
        """Refuses what nets of this space cannot be built with, before a search begins; by default nothing.

        Args:
            cfg: The search's own config, as :meth:`configure` takes it.

        Raises:
            ValueError: Names what does not fit.
        """

    def encode(self, archs: Sequence[Architecture]) -> np.ndarray:
        """Genes as an integer array of shape (candidates, genes), for cost tables that add up in bulk."""
        return np.array([arch.genes for arch in archs], dtype=np.int64)

    def decode(self, codes: np.ndarray) -> list[Architecture]:
        """The inverse of :meth:`encode`; who overrides one overrides both."""
        return [Architecture(tuple(row)) for row in np.asarray(codes).tolist()]


class ArraySpace(SearchSpace):
    """A space whose architectures can be drawn and changed as rows of an integer array, thousands at a time.

    Rows are what :meth:`SearchSpace.encode` makes; what is said there of one architecture holds here of each row.

    Attributes:
        gene_kinds: What a mutation may change, by name.
    """

    gene_kinds: tuple[str, ...]

    @abstractmethod
    def sample_codes(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draws members; shape (count, genes)."""

    @abstractmethod
    def mutate_codes(
        self, codes: np.ndarray, rng: np.random.Generator, prob: float, kinds: Sequence[str] | None = None
    ) -> np.ndarray:
        """Changed copies of members.

        Args:
            codes: Shape (candidates, genes); left as it is.
            rng: Generator.
            prob: See :meth:`SearchSpace.mutate`.
            kinds: Which of :attr:`gene_kinds` may change. Defaults to all.

        Returns:
            Members, shape (candidates, genes).
        """

    @abstractmethod
    def contains(self, codes: np.ndarray) -> np.ndarray:
        """Boolean array of shape (candidates,): which rows are members."""

    def smallest(self) -> Architecture | None:
        """The member that costs least, whatever is counted: if any member keeps to upper limits, it does.

        None, the default, where there is no such member.
        """
        return None
