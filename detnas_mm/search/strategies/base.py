"""The interface of a search strategy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from detnas_mm.errors import ChecksInput
from detnas_mm.search.evaluator import Evaluator
from detnas_mm.search.ledger import Ledger
from detnas_mm.search.record import Record

if TYPE_CHECKING:
    from detnas_mm.search.job import SearchJob


class Strategy(ChecksInput, ABC):
    """How a space is searched. A strategy owns its loop; its only state between two starts is the ledger.

    Attributes:
        job: The search, after :meth:`setup`.
    """

    job: SearchJob

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """The settings that decide which candidates are asked for, JSON-ready."""

    def setup(self, job: SearchJob) -> None:
        """Called once, before a model or data are loaded.

        Raises:
            ValueError: If the strategy cannot serve this search.
        """
        self.job = job

    @abstractmethod
    def run(self, evaluator: Evaluator, ledger: Ledger) -> list[Record]:
        """Runs the search to its end, from where the ledger's rows end.

        It is called on every rank, with the same rows, and must ask for the same candidates in the same order on all:
        what it asks for follows from the seed and the rows alone, never from time, host, rank or the ledger's path.

        Args:
            evaluator: Set up.
            ledger: Takes the rows; a file on rank 0 alone.

        Returns:
            All successful rows, the best in the first objective first.

        Raises:
            LedgerError: If the ledger's rows are not those that this strategy asks for.
            DetNASError: If every candidate failed.
        """

    def artifacts(self) -> dict[str, Any]:
        """What else the search has to show after :meth:`run`: JSON-ready contents by the name of their file."""
        return {}
