"""The interface of a search strategy, and the bounded drawing that all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from detnas_mm.errors import ChecksInput
from detnas_mm.search.checks import whole
from detnas_mm.search.objective import Budget, Objective, UnmeetableConstraint
from detnas_mm.search.record import Proposal, Record
from detnas_mm.spaces import SearchSpace


class Strategy(ChecksInput, ABC):
    """How the space is looked through: ``ask`` for candidates, ``tell`` what they were worth.

    A strategy's state is a function of the seed and of the records told so far: generation g is drawn from a
    generator seeded by (seed, g). A search is resumed by asking and telling again, so nothing is ever saved.

    Args:
        max_attempts: Candidates drawn without a new feasible one among them before giving up.

    Attributes:
        acceptance: Share of the candidates drawn for the last generation that were new and feasible.
        remark: What else the log should say of the last generation.
        certificate: What was proven of the result, JSON-ready; None where nothing is.
        log: Receives lines while a strategy works long on what to ask for; the searcher sets it.
        begins_at_random: Whether the first generation is drawn at random, so that drawing it costs next to nothing.
    """

    begins_at_random: bool = False
    certificate: dict[str, Any] | None = None

    def __init__(self, max_attempts: int = 20_000) -> None:
        self.max_attempts = whole('max_attempts', max_attempts, 1)
        self.log: Callable[[str], None] = lambda text: None
        self.records: list[Record] = []
        self.acceptance = 0.0
        self.remark = ''

    def setup(self, space: SearchSpace, budget: Budget, objectives: Sequence[Objective], seed: int) -> None:
        """Called once before the first generation.

        Raises:
            ValueError: If the strategy cannot serve these objectives.
        """
        self.space = space
        self.budget = budget
        self.objectives = list(objectives)
        self.seed = seed
        self.records = []
        self._seen: set[str] = set()

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """The settings that decide which candidates are asked for, JSON-ready."""

    @abstractmethod
    def propose(self, generation: int, rng: np.random.Generator) -> list[Proposal]:
        """Draws one generation with :meth:`draw_new`."""

    def ask(self, generation: int) -> list[Proposal]:
        """The candidates of a generation, none of them asked for before; empty when the space is used up.

        Raises:
            UnmeetableConstraint: If not one feasible candidate was found.
        """
        self._drawn = self._accepted = 0
        proposals = self.propose(generation, np.random.default_rng([self.seed, generation]))
        self.acceptance = self._accepted / max(self._drawn, 1)
        if not proposals and not self._seen:
            constraints = ' and '.join(map(str, self.budget.constraints))
            raise UnmeetableConstraint(
                f'None of {self._drawn:,} candidates drawn meets {constraints} (acceptance rate 0). '
                f'{self.budget.range_text()} Loosen the constraint, or raise strategy.max_attempts.'
            )
        return proposals

    def tell(self, records: Sequence[Record]) -> None:
        """Takes the rows of a generation that was asked for."""
        self.records.extend(records)

    def draw_new(self, count: int, draw: Callable[[int], list[Proposal]]) -> list[Proposal]:
        """Draws until there are ``count`` new feasible candidates, or ``max_attempts`` in a row were of no use.

        Args:
            count: How many are wanted.
            draw: Makes n candidates, feasible or not.

        Returns:
            At most ``count`` candidates.
        """
        found: list[Proposal] = []
        in_vain = 0
        while len(found) < count and in_vain < self.max_attempts:
            drawn = draw(min(max(4 * (count - len(found)), 32) if in_vain == 0 else 1024, self.max_attempts))
            allowed = self.budget.allows([p.arch for p in drawn])
            in_vain += len(drawn)
            for proposal, fits in zip(drawn, allowed):
                self._drawn += 1
                if fits and proposal.arch.id not in self._seen:
                    self._seen.add(proposal.arch.id)
                    self._accepted += 1
                    found.append(proposal)
                    in_vain = 0
                    if len(found) == count:
                        break
        return found

    def draw_random(self, count: int, rng: np.random.Generator) -> list[Proposal]:
        """New feasible candidates drawn at random."""
        return self.draw_new(count, lambda n: [Proposal(arch) for arch in self.space.sample_many(rng, n)])
