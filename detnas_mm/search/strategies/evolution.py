"""Evolutionary search of DetNAS (section 3.2, step 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from detnas_mm.checks import whole
from detnas_mm.errors import DetNASError
from detnas_mm.registry import STRATEGIES, build_from
from detnas_mm.search.prefilter import Prefilter
from detnas_mm.search.record import Proposal, Record
from detnas_mm.search.strategies.ask_tell import AskTell

if TYPE_CHECKING:
    from detnas_mm.search.job import SearchJob


@STRATEGIES.register_module()
class EvolutionStrategy(AskTell):
    """Evolution with the best rows of all generations as parents; by default half mutation, half crossover.

    The first generation is random. If mutation or crossover finds too few new candidates, random ones are added, so
    that generations are full as long as the space has new candidates.

    Args:
        population: Candidates of a generation. Defaults to the paper's 50.
        parents: Number of the best rows of all generations that become parents. Defaults to the paper's 10.
        mutation: Children by mutation. Defaults to the paper's half of the population.
        crossover: Children by crossover. Defaults to the paper's half of the population.
        random: Random candidates in each generation. Defaults to 0, as in the paper; the authors' code has 20
            mutations, 20 crossovers and 10 random candidates.
        mutation_prob: Probability that a gene is redrawn. Defaults to the paper's 0.1.
        max_attempts: See :class:`AskTell`.
        prefilter: Arguments of :class:`~detnas_mm.search.prefilter.Prefilter`, such as
            ``dict(ranker=dict(type='SurrogateRanker'), oversample=4, min_correlation=0.3)``. Defaults to None
            (all offspring are evaluated), as in the paper.

    Raises:
        ValueError: If a number does not fit, or mutation, crossover and random do not add up to the population.
    """

    def __init__(
        self,
        population: int = 50,
        parents: int = 10,
        mutation: int | None = None,
        crossover: int | None = None,
        random: int = 0,
        mutation_prob: float = 0.1,
        max_attempts: int = 20_000,
        prefilter: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(max_attempts)
        whole('population', population, 1)
        whole('parents', parents, 1)
        for name, children in dict(mutation=mutation, crossover=crossover, random=random).items():
            if children is not None:
                whole(name, children)
        self.prefilter = None if prefilter is None else build_from(STRATEGIES, prefilter, type=Prefilter)
        if mutation is None:
            mutation = population - random - crossover if crossover is not None else (population - random + 1) // 2
        if crossover is None:
            crossover = population - random - mutation
        if mutation + crossover + random != population or min(mutation, crossover) < 0:
            raise DetNASError(
                f'mutation + crossover + random, each at least 0, must equal the population; got {mutation} + '
                f'{crossover} + {random} != {population}.'
            )
        if not 0 < mutation_prob <= 1:
            raise DetNASError(f'mutation_prob must lie in (0, 1]; got {mutation_prob}.')
        self.population = population
        self.parents = parents
        self.mutation = mutation
        self.crossover = crossover
        self.random = random
        self.mutation_prob = mutation_prob

    def spec(self) -> dict[str, Any]:
        names = ('population', 'parents', 'mutation', 'crossover', 'random', 'mutation_prob', 'max_attempts')
        spec = dict(type=type(self).__name__) | {name: getattr(self, name) for name in names}
        return spec | ({} if self.prefilter is None else dict(prefilter=self.prefilter.spec()))

    def setup(self, job: SearchJob) -> None:
        """See :meth:`Strategy.setup`."""
        self.check_objectives(job)
        super().setup(job)
        if self.prefilter is not None:
            self.prefilter.setup(job)
        self.rehearse()

    def check_objectives(self, job: SearchJob) -> None:
        """Raises unless there is exactly one objective.

        Raises:
            ValueError: If there are several. The message names them.
        """
        if len(job.objectives) != 1:
            raise DetNASError(
                f'EvolutionStrategy needs exactly one objective; got {[o.name for o in job.objectives]}. Turn '
                f'the others into constraints, or use ParetoStrategy.'
            )

    def tell(self, records: Sequence[Record]) -> None:
        """See :meth:`AskTell.tell`."""
        super().tell(records)
        if self.prefilter is not None:
            self.prefilter.tell(records)
            self.remark = str(self.prefilter)

    def choose_parents(self) -> list[Record]:
        """Returns the best rows of all generations."""
        return self.objectives[0].best_first(self.records)[: self.parents]

    def propose(self, generation: int, rng: np.random.Generator) -> list[Proposal]:
        archs = [self.space.parse(record.arch) for record in self.choose_parents()]
        children: list[Proposal] = []
        if self.prefilter is not None:
            self.prefilter.begin(self.records)
        if archs:

            def mutations(count: int) -> list[Proposal]:
                picks = rng.integers(len(archs), size=count)
                return [
                    Proposal(self.space.mutate(archs[i], rng, self.mutation_prob), 'mutation', (archs[i].id,))
                    for i in picks
                ]

            children += self._draw_offspring(self.mutation, mutations)
        if len(archs) > 1:

            def crossovers(count: int) -> list[Proposal]:
                pairs = [rng.choice(len(archs), size=2, replace=False) for _ in range(count)]
                return [
                    Proposal(self.space.crossover(archs[i], archs[j], rng), 'crossover', (archs[i].id, archs[j].id))
                    for i, j in pairs
                ]

            children += self._draw_offspring(self.crossover, crossovers)
        children += self.draw_random(self.population - len(children), rng)
        if self.prefilter is not None:
            self.prefilter.predict(children)
        return children

    def _draw_offspring(self, count: int, draw: Callable[[int], list[Proposal]]) -> list[Proposal]:
        """Draws new feasible offspring; with a prefilter, keeps the most promising of a larger number."""
        if self.prefilter is None:
            return self.draw_new(count, draw)
        kept, left_out = self.prefilter.choose(count, lambda number: self.draw_new(number, draw))
        self._seen -= {proposal.arch.id for proposal in left_out}
        return kept
