"""The interface of an evaluator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from detnas_mm.errors import ChecksInput
from detnas_mm.search import Evaluation, Objective, Record
from detnas_mm.spaces import Architecture, SearchSpace


class TrainedNet(NamedTuple):
    """A candidate with the weights that it was judged by.

    Attributes:
        backbone: Config of its fixed backbone.
        state_dict: Of the whole model with that backbone, on the CPU.
    """

    backbone: dict[str, Any]
    state_dict: dict[str, Any]


class Evaluator(ChecksInput, ABC):
    """How good a candidate is.

    Attributes:
        needs_model: Whether :meth:`setup` wants a trained model. If not, a search builds no Runner and no dataset,
            and asks for no checkpoint.
    """

    needs_model: bool = False

    @abstractmethod
    def setup(self, space: SearchSpace, model: Any = None, seed: int = 0) -> None:
        """Called once before the first evaluation.

        Args:
            space: The search space.
            model: The trained model, if ``needs_model``.
            seed: Seed of the search.

        Raises:
            ValueError: If something does not fit; before any long work.
        """

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """What makes two evaluations comparable, JSON-ready. Called after :meth:`setup`."""

    @abstractmethod
    def evaluate(self, archs: Sequence[Architecture]) -> Iterator[Evaluation]:
        """Evaluates a generation.

        All of it is handed over at once, so that work can be shared between candidates. Results come one by one, in
        order, and each depends on its candidate alone, and on what was observed.

        Args:
            archs: The candidates.

        Yields:
            One evaluation for each.
        """

    def observe(self, records: Sequence[Record], objectives: Sequence[Objective]) -> None:
        """Takes all rows of finished generations, before the next one is evaluated; most evaluators need not know.

        Args:
            records: The rows; the same ones when a search was stopped and goes on.
            objectives: What is searched for.

        Raises:
            ValueError: If the evaluator cannot serve these objectives.
        """

    def trained_net(self, arch: Architecture) -> TrainedNet | None:
        """What is exported of a candidate; all ranks call it. None, the default: there are no weights to keep.

        Args:
            arch: The candidate. After :meth:`setup`, if ``needs_model``.
        """
        return None
