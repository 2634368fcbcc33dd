"""What a system gives so that a table of its space's latencies can be measured. Imports torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from detnas_mm.latency.inputs import Inputs, Run
from detnas_mm.spaces import Architecture, SearchSpace


class LatencySubject(ABC):
    """The nets that the table of a space is measured in, their parts, and how the table is made of their times.

    Registered in :data:`~detnas_mm.registry.LATENCY_SUBJECTS`, in ``latency.py`` of a system, and named by
    :attr:`SearchSpace.latency_subject`. All times that it gets and gives are seconds, rounds along the first axis. What
    it calls cells are arrays, in dicts and lists as it likes.

    Args:
        space: The space.
        inputs: What nets are run on.
        model: With a supernet of the space, if ``needs_model``: trained, or with random weights.
        backbone: The config that the supernet was built of.
        grid: How finely widths are measured, where the space has any; None for the subject's own choice.

    Attributes:
        parts: What can be measured, of :data:`~detnas_mm.latency.file.PARTS`.
        needs_model: Whether nets are cut out of a supernet; if not, a checkpoint is refused.
        has_grid: Whether ``grid`` means something.
        references: Backbones to compare nets with, by name: configs of their own, which limits can be multiples of.
        other_work: Bytes that are read before each run, to empty caches; 0 for none.

    Raises:
        ValueError: If something does not fit.
    """

    parts: tuple[str, ...] = ('backbone',)
    needs_model: bool = False
    has_grid: bool = False
    references: Mapping[str, Mapping[str, Any]] = {}
    other_work: int = 0
    model_name: str

    def __init__(
        self,
        space: SearchSpace,
        inputs: Inputs,
        model: nn.Module | None = None,
        backbone: Mapping[str, Any] | None = None,
        grid: int | None = None,
    ) -> None:
        self.space: Any = space
        self.inputs = inputs
        self.model: Any = model
        self.backbone = backbone
        self.grid: Any = grid
        self.setup()

    @abstractmethod
    def setup(self) -> None:
        """Checks the arguments, and sets ``model_name``, which is what the file calls the model."""

    @abstractmethod
    def nets_to_check(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        """Whole nets that sums are checked by: about ``count`` members, 2 or more.

        Raises:
            ValueError: If there are hardly any.
        """

    @abstractmethod
    def net(self, arch: Architecture) -> Run:
        """What runs a member on one input."""

    @abstractmethod
    def table_nets(self, rng: np.random.Generator) -> dict[Hashable, tuple[Run, Sequence[nn.Module]]]:
        """The nets that the table is measured in, by keys of the subject's own.

        Each is what runs it on one input, and its parts: modules that run one after another. See
        :class:`~detnas_mm.latency.stopwatch.TimedRun`.
        """

    @abstractmethod
    def cells(self, samples: Mapping[Hashable, np.ndarray]) -> dict[str, Any]:
        """The table's cells, round by round.

        Args:
            samples: By the keys of :meth:`table_nets`, each of shape (rounds, parts + 2): before the first part, the
                parts, after the last one. Without parts (rounds, 1).

        Returns:
            Arrays whose first axis are the rounds, in dicts and lists.
        """

    @abstractmethod
    def sums(self, cells: Mapping[str, Any], archs: Sequence[Architecture]) -> np.ndarray:
        """What members take by the table: shape (members,).

        Args:
            cells: As :meth:`cells` gives them, without their first axis.
            archs: The members.
        """

    @abstractmethod
    def content(self, cells: Mapping[str, Any], spreads: Mapping[str, Any]) -> dict[str, Any]:
        """What the file holds of the table, ``constant_ms`` among it, as the cost that reads it needs it; JSON-ready.

        Args:
            cells: Milliseconds, lists in the place of arrays.
            spreads: Their interquartile ranges over the rounds.
        """

    @abstractmethod
    def describe(self, found: Mapping[str, Any]) -> list[str]:
        """A file's cells in a line or two."""
