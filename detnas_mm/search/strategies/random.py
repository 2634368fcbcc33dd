"""Random search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from detnas_mm.checks import whole
from detnas_mm.registry import STRATEGIES
from detnas_mm.search.record import Proposal
from detnas_mm.search.strategies.ask_tell import AskTell

if TYPE_CHECKING:
    from detnas_mm.search.job import SearchJob


@STRATEGIES.register_module()
class RandomStrategy(AskTell):
    """Random search: the baseline for other strategies.

    Args:
        population: Candidates of a generation.
        max_attempts: See :class:`AskTell`.
    """

    def __init__(self, population: int = 50, max_attempts: int = 20_000) -> None:
        super().__init__(max_attempts)
        self.population = whole('population', population, 1)

    def setup(self, job: SearchJob) -> None:
        """See :meth:`Strategy.setup`."""
        super().setup(job)
        self.rehearse()

    def spec(self) -> dict[str, Any]:
        return dict(type='RandomStrategy', population=self.population, max_attempts=self.max_attempts)

    def propose(self, generation: int, rng: np.random.Generator) -> list[Proposal]:
        return self.draw_random(self.population, rng)
