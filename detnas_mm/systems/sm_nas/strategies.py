"""Evolution of SM-NAS's second stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from detnas_mm.checks import flag, real, whole
from detnas_mm.errors import DetNASError
from detnas_mm.registry import STRATEGIES
from detnas_mm.search.fronts import training_budget
from detnas_mm.search.objective import pareto_front
from detnas_mm.search.record import Proposal, Record
from detnas_mm.search.strategies.ask_tell import AskTell
from detnas_mm.search.text import counted
from detnas_mm.spaces import Architecture
from detnas_mm.systems.sm_nas.pruning import NOTES, Judged, Pruned, Pruning, order_of

if TYPE_CHECKING:
    from detnas_mm.search.job import SearchJob

#: Maximum number of candidates that pruning measures in a generation, as a multiple of the population.
MEASURED = 4


@STRATEGIES.register_module()
class ModularStrategy(AskTell):
    """Evolution that mutates members of the Pareto front, adds random candidates, and prunes by the partial order.

    The search of SM-NAS's second stage (Yao et al., AAAI 2020, section 3.2). Parents are drawn uniformly from the
    front. The first generation is the seeds of the space, if it has any, filled up with random candidates.

    Pruning measures candidates that precede a trained net, at most :data:`MEASURED` times ``population`` in a
    generation. After that it drops such candidates unmeasured, and others are drawn.

    Args:
        population: Number of candidates in a generation.
        random: Probability that a candidate is drawn at random. Defaults to 0.2, as in the authors' early code.
        mutation_prob: See :meth:`SearchSpace.mutate`. Defaults to 1, the full mutation.
        pruning: Whether to drop candidates by :mod:`detnas_mm.systems.sm_nas.pruning`. Needs a cost as second objective
            and a space with a partial order. Defaults to True.
        max_attempts: See :class:`AskTell`.

    Raises:
        DetNASError: If a number is not valid; on :meth:`setup`, if objectives or space do not fit.
    """

    def __init__(
        self,
        population: int = 20,
        random: float = 0.2,
        mutation_prob: float = 1.0,
        pruning: bool = True,
        max_attempts: int = 20_000,
    ) -> None:
        super().__init__(max_attempts)
        self.population = whole('population', population, 1)
        if not 0 <= real('random', random) <= 1:
            raise DetNASError(f'random must lie in [0, 1]; got {random}.')
        if not 0 < real('mutation_prob', mutation_prob) <= 1:
            raise DetNASError(f'mutation_prob must lie in (0, 1]; got {mutation_prob}.')
        self.random = random
        self.mutation_prob = mutation_prob
        self.pruning = flag('pruning', pruning)
        self.pruned: list[dict[str, Any]] = []
        self._measured = self._unmeasured = 0  # candidates of a generation that precede a trained net

    def spec(self) -> dict[str, Any]:
        names = ('population', 'random', 'mutation_prob', 'pruning', 'max_attempts')
        return dict(type='ModularStrategy') | {name: getattr(self, name) for name in names}

    def setup(self, job: SearchJob) -> None:
        """See :meth:`Strategy.setup`."""
        names = [objective.name for objective in job.objectives]
        if len(names) < 2:
            raise DetNASError(
                f'ModularStrategy needs two objectives, such as coco/bbox_mAP and latency; got {names}. For one '
                f'objective use EvolutionStrategy.'
            )
        if self.pruning:
            if len(names) != 2 or names[1] not in job.budget.models or job.objectives[1].direction != 'minimize':
                raise DetNASError(
                    f'ModularStrategy prunes by a cost that is known before training: search.objectives must be a '
                    f'metric and one of the costs {sorted(job.budget.models)} with direction minimize; got {names}. '
                    f'Change them, or set search.strategy.pruning=False.'
                )
            if order_of(job.space) is None:
                raise DetNASError(
                    f'{type(job.space).__name__} has no partial order (method precedes), which pruning needs: set '
                    f'search.strategy.pruning=False.'
                )
        super().setup(job)
        self.pruned = []
        self._archs: dict[str, Architecture] = {}
        self.rehearse()

    def tell(self, records: Sequence[Record]) -> None:
        """See :meth:`AskTell.tell`."""
        super().tell(records)
        self._archs |= {record.id: self.space.parse(record.arch) for record in records}

    # -- drawing ------------------------------------------------------------------------------------------------

    def propose(self, generation: int, rng: np.random.Generator) -> list[Proposal]:
        self.remark = ''
        self._measured = self._unmeasured = 0
        if generation == 0:
            return self._first(rng)
        ok = [record for record in self.records if record.ok]
        parents = [self._archs[record.id] for record in pareto_front(ok, self.objectives)] if ok else []

        def draw(count: int) -> list[Proposal]:
            return [self._child(parents, rng) for _ in range(count)]

        before = len(self.pruned)
        children = self._fill([], draw, generation)
        # Random candidates fill up the generation if mutations find nothing new.
        found = self._fill(children, lambda n: [Proposal(a) for a in self.space.sample_many(rng, n)], generation)
        if self.pruned or self._measured:
            left = f', {self._unmeasured} dropped unmeasured' if self._unmeasured else ''
            self.remark = (
                f'pruning: {counted(self._measured, "candidate")} measured before training, '
                f'{len(self.pruned) - before} of them dropped{left}; {len(self.pruned)} spared so far'
            )
        return found

    def _first(self, rng: np.random.Generator) -> list[Proposal]:
        seeds = [Proposal(arch, 'seed') for arch in getattr(self.space, 'starting_points', ())]
        allowed = self.budget.allows([seed.arch for seed in seeds])
        for seed in (seed for seed, fits in zip(seeds, allowed, strict=True) if not fits):
            self.job.log(f'Left out seed {self.space.describe(seed.arch)}: it does not meet the constraints.')
        within = [seed for seed, fits in zip(seeds, allowed, strict=True) if fits]
        self._drawn, self._accepted = len(seeds), len(within)
        self._seen |= {seed.arch.id for seed in within}
        return within + self.draw_random(self.population - len(within), rng)

    def _child(self, parents: Sequence[Architecture], rng: np.random.Generator) -> Proposal:
        if not parents or rng.random() < self.random:
            return Proposal(self.space.sample(rng))
        parent = parents[int(rng.integers(len(parents)))]
        return Proposal(self.space.mutate(parent, rng, self.mutation_prob), 'mutation', (parent.id,))

    def _fill(self, found: list[Proposal], draw: Any, generation: int) -> list[Proposal]:
        """Adds new feasible candidates that pruning keeps, until the generation is full or nothing new is found."""
        found = list(found)
        while len(found) < self.population and self._unmeasured < self.max_attempts:
            drawn = self.draw_new(self.population - len(found), draw)
            if not drawn:
                break
            found += self._worth(drawn, generation)
        return found

    # -- pruning ------------------------------------------------------------------------------------------------

    def _worth(self, drawn: list[Proposal], generation: int) -> list[Proposal]:
        """Returns the candidates that pruning keeps; measures those that precede a trained net."""
        order = order_of(self.space)
        trained = [self._judged(record) for record in self.records if record.ok] if self.pruning else []
        if not trained or order is None:
            return drawn
        # Candidates will train for the budget of successful rows: the full schedule.
        pruning = Pruning(trained, order, trained[-1].budget)
        concerned = [proposal.arch for proposal in drawn if pruning.concerns(proposal.arch)]
        measured = concerned[: MEASURED * self.population - self._measured]
        out = set(concerned[len(measured) :])
        self._measured += len(measured)
        self._unmeasured += len(out)
        self.budget.measure(measured)
        failed = self.budget.failures(measured)  # these become failed rows
        for arch in (arch for arch in measured if arch not in failed):
            reason = pruning.reason(arch, self._cost(arch), self._spread(arch))
            if reason is not None:
                out.add(arch)
                self.pruned.append(self._note(generation, arch, reason))
        return [proposal for proposal in drawn if proposal.arch not in out]

    def _cost(self, arch: Architecture) -> float:
        return self.budget.costs(arch)[self.objectives[1].name]

    def _spread(self, arch: Architecture) -> float:
        """Returns the uncertainty of the second objective's cost; 0 for costs that are counted."""
        spread = getattr(self.budget.cost_model(self.objectives[1].name), 'spread', None)
        return 0.0 if spread is None else float(spread(arch))

    def _judged(self, record: Record) -> Judged:
        arch = self._archs[record.id]
        cost = record.costs[self.objectives[1].name]
        return Judged(arch, self.objectives[0].gain(record), cost, self._spread(arch), training_budget(record))

    def _note(self, generation: int, arch: Architecture, reason: Pruned) -> dict[str, Any]:
        return dict(
            generation=generation, arch=self.space.describe(arch), cost=self._cost(arch), spread=self._spread(arch),
            larger=self.space.describe(reason.larger.arch), faster=self.space.describe(reason.faster.arch),
        )  # fmt: skip

    def artifacts(self) -> dict[str, Any]:
        """Returns dropped candidates with reasons, and the spreads of costs; see :meth:`Strategy.artifacts`."""
        if len(self.objectives) != 2 or self.objectives[1].name not in self.budget.models:
            return {}
        spreads = {record.id: self._spread(self._archs[record.id]) for record in self.records if record.ok}
        return {NOTES: dict(spared=self.pruned, spreads=spreads)}
