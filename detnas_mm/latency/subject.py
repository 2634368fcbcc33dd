"""Interface by which a system has the latency table of its space measured. Imports torch."""

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
    """Defines the nets in which the table of a space is measured, their parts, and how the table is computed.

    Registered in :data:`~detnas_mm.registry.LATENCY_SUBJECTS`, in ``latency.py`` of a system, and named by
    :attr:`SearchSpace.latency_subject`. All times are in seconds.

    Args:
        space: The space.
        inputs: Inputs that nets are run on.
        model: Model with a supernet of the space, if ``needs_model``; trained, or with random weights.
        backbone: Config of the supernet.
        grid: Number of measured widths, for spaces with widths; None for the default of the subject.

    Attributes:
        parts: Parts that can be measured, of :data:`~detnas_mm.latency.file.PARTS`.
        needs_model: Whether nets are cut out of a supernet; if not, a checkpoint is an error.
        has_grid: Whether ``grid`` is used.
        references: Configs of reference backbones, by name; latencies can be given in multiples of theirs.
        other_work: Bytes that are read before each run, to empty caches; 0 for none.
        table_key: Key of the table in the file, in milliseconds.
        settings: Settings of the subject in the file, JSON-ready; set by :meth:`setup`.
        model_name: Name of the model in the file; set by :meth:`setup`.

    Raises:
        ValueError: If an argument does not fit.
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
        """Returns the configs of :attr:`references`, for images with this number of channels."""
        return {name: {**settings, **unless_rgb(in_channels)} for name, settings in cls.references.items()}

    @abstractmethod
    def setup(self) -> None:
        """Checks the arguments, and prepares the nets."""

    @abstractmethod
    def nets_to_check(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        """Returns architectures whose whole nets validate the sums: about ``count``, 2 or more.

        Raises:
            ValueError: If the space has too few.
        """

    @abstractmethod
    def net(self, arch: Architecture) -> Run:
        """Returns a function that runs the net of an architecture on one input."""

    @abstractmethod
    def table_nets(self, rng: np.random.Generator) -> dict[Hashable, tuple[Run, Sequence[nn.Module]]]:
        """Returns the nets in which the table is measured, by any keys.

        Each is a function that runs it on one input, and its parts: modules that run one after another, see
        :class:`~detnas_mm.latency.stopwatch.TimedRun`.
        """

    @abstractmethod
    def cells(self, samples: Mapping[Hashable, np.ndarray]) -> dict[str, Any]:
        """Computes the entries of the table in each round.

        Args:
            samples: Seconds by the keys of :meth:`table_nets`, each of shape (rounds, parts + 2): before the first
                part, the parts, after the last one. Without parts (rounds, 1).

        Returns:
            ``table``, arrays in dicts and lists as the cost reads them; ``constant``, a dict of times that all nets
            have in common; and further entries of the file, by name. Rounds are the first axis of all arrays.
        """

    @abstractmethod
    def sums(self, cells: Mapping[str, Any], archs: Sequence[Architecture]) -> np.ndarray:
        """Returns the latencies of architectures by the table: shape (architectures,).

        Args:
            cells: Result of :meth:`cells`, without the axis of rounds.
            archs: The architectures.
        """
