"""Strategies that prove how good the best candidate can be."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from detnas_mm.errors import DetNASError
from detnas_mm.search.objective import UnmeetableConstraint
from detnas_mm.search.strategies.ask_tell import AskTell


class ProvingStrategy(AskTell):
    """A strategy that proves how good the best candidate can be; other strategies can have it prove theirs."""

    @abstractmethod
    def prove(self) -> dict[str, Any]:
        """Returns what is proven, JSON-ready: ``bound``, in the objective's units, and whatever else; computed once.

        Called after :meth:`setup`.

        Raises:
            UnmeetableConstraint: If no candidate is within the budgets.
            ValueError: If nothing can be proven of this search.
        """

    def artifacts(self) -> dict[str, Any]:
        """See :meth:`Strategy.artifacts`: the certificate."""
        return {'certificate.json': self.prove()}


@contextmanager
def without_proof() -> Iterator[None]:
    """Says how to search without the proof, where exact search cannot serve what is asked."""
    try:
        yield
    except UnmeetableConstraint:
        raise
    except ValueError as error:
        raise DetNASError(
            f'Nothing can be proven of this search: {error} To search without a proof: --cfg-options '
            f'search.strategy.proof=None'
        ) from error
