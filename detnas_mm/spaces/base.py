"""Interfaces of search spaces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detnas_mm.errors import ChecksInput
from detnas_mm.spaces.architecture import Architecture


class SearchSpace(ChecksInput, ABC):
    """Search space: draws, mutates, validates and names architectures.

    It holds no state: random methods take a seeded ``numpy.random.Generator``, so that one seed determines a whole
    search. Check a new space with :func:`detnas_mm.testing.check_search_space`.

    Attributes:
        latency_subject: Name, in :data:`~detnas_mm.registry.LATENCY_SUBJECTS`, of the class that measures a latency
            table for this space; None if there is no such table.
        in_channels: Channels of the input images. A number must agree with the backbone and the preprocessor of the
            search's config; None, the default, is not compared and counts as 3.
        exact_strategy: Name, in :data:`~detnas_mm.registry.STRATEGIES`, of the strategy that finds the optimum of this
            space and proves it; None if there is none.
        channel_sorter: Name, in :data:`~detnas_mm.registry.MODELS`, of the function that puts the channels of an
            exported net into a faster order, with equal outputs: (config, weights) → (config, weights, plain values
            for the checkpoint, line to log). Used with ``search.export.sort_channels``; None if there is none.
    """

    latency_subject: str | None = None
    in_channels: int | None = None
    exact_strategy: str | None = None
    channel_sorter: str | None = None

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of architectures in the space."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Returns the settings that define the space, JSON-ready; spaces of equal ``spec`` are the same space."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draws one architecture at random."""

    def sample_many(self, rng: np.random.Generator, count: int) -> list[Architecture]:
        """Draws ``count`` architectures; override it where drawing many at once is faster."""
        return [self.sample(rng) for _ in range(count)]

    @abstractmethod
    def mutate(self, arch: Architecture, rng: np.random.Generator, prob: float) -> Architecture:
        """Returns a mutated copy: unchanged at ``prob=0``, mutated as far as the space allows at 1.

        Where genes are independent, each gene is redrawn with probability ``prob``; where rules tie genes together, the
        space defines what one change is.
        """

    @abstractmethod
    def crossover(self, first: Architecture, second: Architecture, rng: np.random.Generator) -> Architecture:
        """Returns a child that combines the genes of two parents."""

    @abstractmethod
    def parse(self, value: Any) -> Architecture:
        """Reads an architecture from what users write (text, a sequence, an :class:`Architecture`).

        Raises:
            ValueError: If the value is not a member of the space. The message gives the fault and what is allowed.
        """

    @abstractmethod
    def describe(self, arch: Architecture) -> str:
        """Returns an architecture as text, which :meth:`parse` reads back."""

    def notes(self) -> list[str]:
        """Returns lines about the space that a search logs when it starts; none by default."""
        return []

    def validate(self, arch: Architecture) -> None:
        """Raises ValueError unless ``arch`` is a member of this space."""
        self.parse(arch)

    def configure(self, cfg: Mapping[str, Any], arch: Architecture) -> dict[str, Any] | None:
        """Returns a copy of a config with this architecture in it: an ordinary config of mmdet or mmpretrain.

        It sets what belongs to the architecture (for a backbone its type, its architecture and the channels of the next
        part; for a whole detector the model and the pipelines) and keeps everything else.

        Args:
            cfg: Nested dicts, not changed: the search's config (its supernet is replaced), an ordinary one (its net is
                replaced), or one without a model (the result holds the backbone alone).
            arch: A member of this space.

        Returns:
            Nested dicts; None, the default, for a space whose nets cannot be described by configs.

        Raises:
            ValueError: If the architecture is not a member, or does not fit into the config.
        """
        return None

    def check(self, cfg: Mapping[str, Any]) -> None:
        """Raises if nets of this space cannot be built with a config, before a search begins; by default it never does.

        Args:
            cfg: The search's config, as :meth:`configure` takes it.

        Raises:
            ValueError: If something does not fit; the message names it.
        """

    def encode(self, archs: Sequence[Architecture]) -> np.ndarray:
        """Returns genes as an integer array of shape (candidates, genes), for cost tables that work on many at once."""
        return np.array([arch.genes for arch in archs], dtype=np.int64)

    def decode(self, codes: np.ndarray) -> list[Architecture]:
        """Inverts :meth:`encode`; override both or neither."""
        return [Architecture(tuple(row)) for row in np.asarray(codes).tolist()]


class ArraySpace(SearchSpace):
    """A space that draws and mutates architectures as rows of an integer array, thousands at a time.

    Rows are those of :meth:`SearchSpace.encode`; methods for one architecture hold for each row.

    Attributes:
        gene_kinds: Names of the kinds of genes, each of which a mutation can be restricted to.
    """

    gene_kinds: tuple[str, ...]

    @abstractmethod
    def sample_codes(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draws architectures at random, as rows of shape (count, genes)."""

    @abstractmethod
    def mutate_codes(
        self, codes: np.ndarray, rng: np.random.Generator, prob: float, kinds: Sequence[str] | None = None
    ) -> np.ndarray:
        """Returns mutated copies of architectures.

        Args:
            codes: Shape (candidates, genes); not changed.
            rng: Generator.
            prob: See :meth:`SearchSpace.mutate`.
            kinds: The :attr:`gene_kinds` that may change. Defaults to all.

        Returns:
            Architectures of the space, shape (candidates, genes).
        """

    @abstractmethod
    def contains(self, codes: np.ndarray) -> np.ndarray:
        """Returns a boolean array of shape (candidates,): True for rows that are members of the space."""

    def smallest(self) -> Architecture | None:
        """Returns the architecture with the lowest value of every cost: if any meets all upper limits, this one does.

        None, the default, if the space has none.
        """
        return None
