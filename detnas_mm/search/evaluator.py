"""Interface of evaluators, which compute the metrics of candidates. Imports no torch."""

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
        needs_model: True if :meth:`setup` needs a trained model. If False, a search builds no Runner and needs no
            checkpoint.
        all_ranks: True if several processes may run it: all call it with the same candidates and get the same results.
            False for evaluators that start their own workers or read all images themselves.
        trains: True if it trains candidates on the config's data, which are then checked before the search.
        first_alone: True if the first candidate of a search is evaluated by itself, so that a wrong objective costs one
            evaluation only. False if results come one by one anyway.
        retries: Number of times that a candidate whose machine was lost (see :attr:`Evaluation.lost`) is evaluated
            again before the search stops.
    """

    needs_model: bool = False
    all_ranks: bool = True
    trains: bool = False
    first_alone: bool = True
    retries: int = 2

    def check(self, job: SearchJob) -> None:
        """Raises if the evaluator cannot serve a search; called once, before a model or data are loaded.

        Raises:
            ValueError: If something does not fit.
        """

    @abstractmethod
    def setup(self, job: SearchJob, model: Any = None) -> None:
        """Prepares the evaluator; called once, before the first evaluation.

        Args:
            job: The search: its space, objectives, seed, config and folder.
            model: The trained model, if ``needs_model``.

        Raises:
            ValueError: If something does not fit; before any long work.
        """

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Returns the settings that make evaluations comparable, JSON-ready. Called after :meth:`setup`."""

    @abstractmethod
    def evaluate(self, archs: Sequence[Architecture]) -> Iterator[Evaluation]:
        """Evaluates a generation.

        It gets the whole generation at once, so that candidates can share work. Results come one by one, in order; each
        depends only on its candidate and on the rows given to :meth:`observe`.

        Args:
            archs: The candidates.

        Yields:
            One evaluation for each.
        """

    def observe(self, records: Sequence[Record]) -> None:
        """Receives the rows of all finished generations, before the next generation and after the last one.

        The default ignores them.

        Args:
            records: The rows; a resumed search gives the same ones.
        """

    def expect(self, proposals: Sequence[Proposal]) -> None:
        """Receives a whole generation before its candidates are evaluated; the default ignores it.

        If a search resumes within a generation, only the candidates without a row are evaluated afterwards.

        Args:
            proposals: All candidates of the generation in the order asked for, with their parents.
        """

    def outdated(self, record: Record) -> bool:
        """Returns True if a failed row should be evaluated again, since the cause of its failure no longer applies."""
        return False

    def forget(self, records: Sequence[Record]) -> None:
        """Deletes stored results of candidates that will be evaluated again.

        Args:
            records: Their failed rows.
        """

    def remark(self, records: Sequence[Record]) -> str:
        """Returns text for a generation's log line, in addition to metrics and costs; empty by default.

        Args:
            records: All rows up to this generation's last one.
        """
        return ''

    def weights(self, arch: Architecture) -> dict[str, Any] | None:
        """Returns weights of the model of ``space.configure(searched config, arch)``, on the CPU; all ranks call it.

        None, the default: there are no weights to export. Called after :meth:`setup`.
        """
        return None

    @property
    def has_weights(self) -> bool:
        """True if found nets are exported with weights: by default if :meth:`weights` is overridden."""
        return type(self).weights is not Evaluator.weights

    def rescoring(self, cfg: dict[str, Any]) -> dict[str, Any] | None:
        """Returns a copy of an exported config whose test computes the fitness: on search-val, by the search's metric.

        None, the default: there is no such test. Called before :meth:`setup`, too.
        """
        return None


class ArrayEvaluator(Evaluator):
    """An evaluator that computes the scores of many candidates as arrays, thousands a second.

    Attributes:
        metric: Name of the score in ledger rows and objectives.
    """

    metric: str

    @abstractmethod
    def score_codes(self, codes: np.ndarray) -> np.ndarray:
        """Returns the scores of rows of :meth:`SearchSpace.encode`; shape (candidates,)."""
