"""Strategies that prove an upper bound on the best candidate."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from detnas_mm.errors import DetNASError
from detnas_mm.search.budget import UnmeetableConstraint
from detnas_mm.search.strategies.ask_tell import AskTell


class ProvingStrategy(AskTell):
    """A strategy that proves a bound on the best candidate; other strategies may use it for theirs."""

    @abstractmethod
    def prove(self) -> dict[str, Any]:
        """Returns the proof, JSON-ready: ``bound``, in the objective's units, and further entries; computed once.

        Called after :meth:`setup`.

        Raises:
            UnmeetableConstraint: If no candidate meets the constraints.
            ValueError: If exact search does not support this search.
        """

    def artifacts(self) -> dict[str, Any]:
        """Returns the certificate, see :meth:`Strategy.artifacts`."""
        return {'certificate.json': self.prove()}


@contextmanager
def without_proof() -> Iterator[None]:
    """Adds to errors of exact search how to search without the proof."""
    try:
        yield
    except UnmeetableConstraint:
        raise
    except ValueError as error:
        raise DetNASError(
            f'Exact search cannot prove a bound for this search: {error} To search without a proof: --cfg-options '
            f'search.strategy.proof=None'
        ) from error
