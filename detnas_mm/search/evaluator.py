"""The interface of an evaluator: how good a candidate is. Imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from detnas_mm.errors import ChecksInput
from detnas_mm.search.record import Evaluation, Proposal, Record
from detnas_mm.spaces import Architecture

if TYPE_CHECKING:
    from detnas_mm.search.job import SearchJob


class Evaluator(ChecksInput, ABC):
    """Evaluates candidates.

    Attributes:
        needs_model: Whether :meth:`setup` needs a trained model. If not, a search builds no Runner and asks for no
            checkpoint.
        all_ranks: Whether several processes may run it: all call it with the same candidates and get the same results.
            False for one that starts workers of its own, or reads all images itself.
        trains: Whether it trains candidates on the config's own data, which are looked at before the search then.
        first_alone: Whether the very first candidate of a search is evaluated by itself, so that a mistaken objective
            costs one evaluation. False where results come one by one, and what is not needed is stopped.
        retries: How often a candidate is evaluated again whose machine was lost (see :attr:`Evaluation.lost`) before
            the search stops.
    """

    needs_model: bool = False
    all_ranks: bool = True
    trains: bool = False
    first_alone: bool = True
    retries: int = 2

    def check(self, job: SearchJob) -> None:
        """Refuses a search that this evaluator cannot serve; called once, before a model or data are loaded.

        Raises:
            ValueError: If something does not fit.
        """

    @abstractmethod
    def setup(self, job: SearchJob, model: Any = None) -> None:
        """Called once before the first evaluation.

        Args:
            job: The search: its space, objectives, seed, config and folder.
            model: The trained model, if ``needs_model``.

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

    def observe(self, records: Sequence[Record]) -> None:
        """Takes all rows of finished generations before the next one is evaluated, and after the last one.

        Most evaluators ignore them.

        Args:
            records: The rows; the same ones when a search was stopped and resumes.
        """

    def expect(self, proposals: Sequence[Proposal]) -> None:
        """Takes a whole generation before its candidates are evaluated; most evaluators ignore it.

        Where a search resumes within a generation, only those without a row are evaluated after it.

        Args:
            proposals: All candidates of the generation in the order asked for, with their parents.
        """

    def outdated(self, record: Record) -> bool:
        """Whether a failed row of an earlier start is evaluated again: what it failed by holds no longer."""
        return False

    def forget(self, records: Sequence[Record]) -> None:
        """Drops what is kept of candidates that are evaluated again.

        Args:
            records: Their failed rows.
        """

    def remark(self, records: Sequence[Record]) -> str:
        """What a generation's log line says of its rows besides metrics and costs; empty by default.

        Args:
            records: All rows up to this generation's last one.
        """
        return ''

    def weights(self, arch: Architecture) -> dict[str, Any] | None:
        """State dict of the model of ``space.configure(searched config, arch)``, on the CPU; all ranks call it.

        None, the default: there are no weights to export. Called after :meth:`setup`.
        """
        return None

    def rescoring(self, cfg: dict[str, Any]) -> dict[str, Any] | None:
        """Returns a copy of an exported config whose test gives the fitness: on search-val, by the search's metric.

        None, the default: there is no such test. Called before :meth:`setup`, too.
        """
        return None


class ArrayEvaluator(Evaluator):
    """An evaluator whose score is a formula over arrays: thousands of candidates a second.

    Attributes:
        metric: What ledger rows and objectives call the score.
    """

    metric: str

    @abstractmethod
    def score_codes(self, codes: np.ndarray) -> np.ndarray:
        """Scores of rows of :meth:`SearchSpace.encode`; shape (candidates,)."""
