"""What a system gives so that a table of its space's latencies can be measured. Imports torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from detnas_mm.latency.inputs import Inputs, Run
from detnas_mm.spaces import Architecture, SearchSpace
from detnas_mm.spaces.images import unless_rgb


class LatencySubject(ABC):
    """The nets that the table of a space is measured in, their parts, and how the table is made of their times.

    Registered in :data:`~detnas_mm.registry.LATENCY_SUBJECTS`, in ``latency.py`` of a system, and named by
    :attr:`SearchSpace.latency_subject`. All times are seconds.

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
        table_key: What the file calls the table, in milliseconds.
        settings: What the file holds of the subject's own settings, JSON-ready; set by :meth:`setup`.
        model_name: What the file calls the model; set by :meth:`setup`.

    Raises:
        ValueError: If something does not fit.
    """

    parts: tuple[str, ...] = ('backbone',)
    needs_model: bool = False
    has_grid: bool = False
    references: Mapping[str, Mapping[str, Any]] = {}
    other_work: int = 0
    table_key: str = 'table_ms'
    settings: Mapping[str, Any] = {}
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

    @classmethod
    def reference_backbones(cls, in_channels: int) -> dict[str, dict[str, Any]]:
        """The configs of :attr:`references`, for images of so many channels."""
        return {name: {**settings, **unless_rgb(in_channels)} for name, settings in cls.references.items()}

    @abstractmethod
    def setup(self) -> None:
        """Checks the arguments, and sets what is made of them."""

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
        """What the table is made of, round by round.

        Args:
            samples: By the keys of :meth:`table_nets`, each of shape (rounds, parts + 2): before the first part, the
                parts, after the last one. Without parts (rounds, 1).

        Returns:
            ``table``, arrays in dicts and lists as the cost reads them, ``constant``, a dict of what all nets pay, and
            what else the file is to hold, by its name; rounds are the first axis of all arrays.
        """

    @abstractmethod
    def sums(self, cells: Mapping[str, Any], archs: Sequence[Architecture]) -> np.ndarray:
        """What members take by the table: shape (members,).

        Args:
            cells: As :meth:`cells` gives them, without the rounds.
            archs: The members.
        """
