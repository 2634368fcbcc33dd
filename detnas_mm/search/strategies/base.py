"""Interface of search strategies."""

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
    """Searches a space. A strategy runs its own loop; the only state between two starts is the ledger.

    Attributes:
        job: The search, after :meth:`setup`.
    """

    job: SearchJob

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Returns the settings that determine the proposed candidates, JSON-ready."""

    def setup(self, job: SearchJob) -> None:
        """Prepares the strategy; called once, before a model or data are loaded.

        Raises:
            ValueError: If the strategy cannot serve this search.
        """
        self.job = job

    @abstractmethod
    def run(self, evaluator: Evaluator, ledger: Ledger) -> list[Record]:
        """Runs the search to its end, starting after the rows of the ledger.

        It is called on every rank with the same rows, and must propose the same candidates in the same order on all:
        they may depend on the seed and the rows only, never on time, host, rank or the ledger's path.

        Args:
            evaluator: The evaluator, after its ``setup``.
            ledger: Receives the rows; a file on rank 0 only.

        Returns:
            All successful rows, the best in the first objective first.

        Raises:
            LedgerError: If the ledger's rows are not those that this strategy proposes.
            DetNASError: If every candidate failed.
        """

    def artifacts(self) -> dict[str, Any]:
        """Returns further results after :meth:`run`: JSON-ready content by file name."""
        return {}
