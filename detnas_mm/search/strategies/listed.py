"""Evaluation of given architectures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from detnas_mm.checks import listed
from detnas_mm.errors import DetNASError
from detnas_mm.registry import STRATEGIES
from detnas_mm.search.record import Proposal
from detnas_mm.search.strategies.ask_tell import AskTell

if TYPE_CHECKING:
    from detnas_mm.search.job import SearchJob

_EXAMPLE = "['0|1|2|3', …], as the space writes them"


@STRATEGIES.register_module()
class ListStrategy(AskTell):
    """Evaluates given architectures in one generation, as a baseline for a search.

    Args:
        archs: Architectures, each as text of the space.

    Raises:
        ValueError: If the list is empty, or, on :meth:`setup`, an architecture is not a member of the space, is given
            twice, or breaks a constraint.
    """

    def __init__(self, archs: Sequence[Any]) -> None:
        self.archs = listed('search.strategy.archs', archs, _EXAMPLE)
        if not self.archs:
            raise DetNASError(f'search.strategy.archs is empty; give architectures: {_EXAMPLE}.')
        super().__init__(max_attempts=len(self.archs))  # each is proposed once

    def setup(self, job: SearchJob) -> None:
        """See :meth:`Strategy.setup`."""
        super().setup(job)
        if job.generations != 1:
            raise DetNASError(
                f'ListStrategy evaluates all architectures in one generation, but search.budget.generations is '
                f'{job.generations}. Set it to 1.'
            )
        self._members = [self.space.parse(arch) for arch in self.archs]
        if len(set(self._members)) < len(self._members):
            twice = next(arch for i, arch in enumerate(self._members) if arch in self._members[:i])
            raise DetNASError(f'search.strategy.archs has {self.space.describe(twice)} twice: remove one of them.')
        self.rehearse()

    def spec(self) -> dict[str, Any]:
        return dict(type='ListStrategy', archs=[str(arch) for arch in self.archs])

    def propose(self, generation: int, rng: np.random.Generator) -> list[Proposal]:
        found = self.draw_new(len(self._members), lambda n: [Proposal(arch, 'listed') for arch in self._members])
        if len(found) < len(self._members):
            fitting = {proposal.arch for proposal in found}
            broken = [self.space.describe(arch) for arch in self._members if arch not in fitting]
            raise DetNASError(
                f'search.strategy.archs: {", ".join(broken)} breaks {" or ".join(map(str, self.budget.constraints))}. '
                f'Remove it, or loosen search.constraints.'
            )
        return found
