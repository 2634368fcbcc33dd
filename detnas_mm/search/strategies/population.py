"""Evolution of one population in arrays, thousands of candidates a second (as in MAE-DET)."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from detnas_mm.checks import whole
from detnas_mm.errors import DetNASError
from detnas_mm.registry import STRATEGIES, build_from
from detnas_mm.search.budget import UnmeetableConstraint
from detnas_mm.search.evaluator import ArrayEvaluator, Evaluator
from detnas_mm.search.ledger import Ledger
from detnas_mm.search.ledger_file import LedgerError
from detnas_mm.search.loop import announce, generation_line, progress
from detnas_mm.search.record import Record, Snapshot
from detnas_mm.search.strategies.base import Strategy
from detnas_mm.search.strategies.members import Population, checked_phases, kinds_in, new_rows
from detnas_mm.search.strategies.proving import ProvingStrategy, without_proof
from detnas_mm.search.strategies.window import moved_inside
from detnas_mm.search.stuck import stuck_line
from detnas_mm.search.text import counted, number_text
from detnas_mm.spaces import ArraySpace

if TYPE_CHECKING:
    from detnas_mm.search.job import SearchJob


@STRATEGIES.register_module()
class PopulationEvolution(Strategy):
    """Mutates members drawn uniformly from a population and keeps the best (as in the authors' code of MAE-DET).

    Children are made and scored in batches; those that break a constraint or exist already are dropped. If a constraint
    has a lower bound, children below it are mutated further until they are back within the bounds, or dropped
    (:func:`~detnas_mm.search.strategies.window.moved_inside`); they count as drawn once. The population after a
    generation depends only on the seed, the generation and the population before it, so a search saves nothing else:
    the ledger gets a snapshot after each generation.

    Args:
        population: Number of members. Defaults to the authors' 256.
        candidates: Children drawn in a generation, that is, between two snapshots. The authors draw 100,000 in total.
        batch: Children made at a time from the same population.
        mutation_prob: See the space's ``mutate``. At 1, the default, a child has two mutations, as by the authors.
        phases: Kinds of genes that may change, and the number of generations; the last phase lasts to the end. Coarse
            to fine, as in the paper: ``[dict(kinds=['out', 'kernel', 'depth', 'bottleneck'], generations=5),
            dict(kinds=['out', 'bottleneck'])]``. Defaults to one phase with all kinds.
        start: Initial architectures as text, such as ``['maedet-init']``. Defaults to a population drawn at random.
        max_attempts: Number of random candidates drawn without a feasible one, after which the search stops.
        proof: Config of a :class:`ProvingStrategy`, such as ``dict(type='ExactStrategy', score=…)``: the bound that it
            proves is logged and drawn with the search, which takes some seconds. Candidates do not depend on it.
            Defaults to None.

    Attributes:
        prover: The proving strategy, if a proof is configured.

    Raises:
        ValueError: If a number or a phase does not fit.
    """

    def __init__(
        self,
        population: int = 256,
        candidates: int = 10_000,
        batch: int = 256,
        mutation_prob: float = 1.0,
        phases: Sequence[Mapping[str, Any]] | None = None,
        start: Sequence[Any] = (),
        max_attempts: int = 100_000,
        proof: Mapping[str, Any] | None = None,
    ) -> None:
        for name, number in dict(
            population=population, candidates=candidates, batch=batch, max_attempts=max_attempts
        ).items():
            whole(name, number, 1)
        if not 0 < mutation_prob <= 1:
            raise DetNASError(f'mutation_prob must lie in (0, 1]; got {mutation_prob}.')
        if isinstance(start, (str, bytes)):
            raise DetNASError(f'start must be a list of architectures, such as [{start!r}]; got {start!r}.')
        self.population = population
        self.candidates = candidates
        self.batch = batch
        self.mutation_prob = mutation_prob
        self.phases = checked_phases(phases)
        self.start = list(start)
        self.max_attempts = max_attempts
        self.prover = None if proof is None else build_from(STRATEGIES, proof)
        if not isinstance(self.prover, ProvingStrategy | None):
            raise DetNASError(
                f'proof must be a ProvingStrategy, or None for no proof; got {type(self.prover).__name__}.'
            )
        self.acceptance = 0.0

    def spec(self) -> dict[str, Any]:
        """Returns the settings that determine the candidates, JSON-ready."""
        names = ('population', 'candidates', 'batch', 'mutation_prob', 'max_attempts')
        phases = [dict(kinds=kinds and list(kinds), generations=generations) for kinds, generations in self.phases]
        return dict(type='PopulationEvolution', phases=phases, start=[str(one) for one in self.start]) | {
            name: getattr(self, name) for name in names
        }

    def setup(self, job: SearchJob) -> None:
        """See :meth:`Strategy.setup`.

        Raises:
            ValueError: If the space cannot be searched in arrays, the evaluator does not score arrays or gives another
                metric, there are several objectives, a phase names a kind of genes that the space lacks, an initial
                architecture does not fit, or nothing can be proven.
        """
        super().setup(job)
        space, budget, evaluator = job.space, job.budget, job.evaluator
        name = type(self).__name__
        if not isinstance(space, ArraySpace):
            raise DetNASError(f'{name} needs an ArraySpace, whose candidates are rows of an array; '
                             f'got {type(space).__name__}. Use EvolutionStrategy.')  # fmt: skip
        if not isinstance(evaluator, ArrayEvaluator):
            raise DetNASError(f'{name} needs an ArrayEvaluator, which scores arrays; '
                             f'got {type(evaluator).__name__}. Use EvolutionStrategy.')  # fmt: skip
        if len(job.objectives) != 1:
            raise DetNASError(f'{name} needs exactly one objective; got {[o.name for o in job.objectives]}.')
        self.objective = job.objectives[0]
        if self.objective.name != evaluator.metric:
            raise DetNASError(f'The objective {self.objective.name!r} is not a metric of the evaluator, which gives '
                             f"['{evaluator.metric}']. Change search.objectives.")  # fmt: skip
        for kinds, _ in self.phases:
            if kinds is not None and not set(kinds) <= set(space.gene_kinds):
                raise DetNASError(f'strategy.phases has kinds={list(kinds)}; allowed are {list(space.gene_kinds)}.')
        if self.prover is not None:
            with without_proof():
                self.prover.setup(job)
        self.space = space
        self.budget = budget
        self.seed = job.seed
        self._windowed = bool(budget.lower_bounds())
        self._sign = 1.0 if self.objective.direction == 'maximize' else -1.0
        archs = list(dict.fromkeys(space.parse(one) for one in self.start))
        self._first = space.encode(archs) if archs else None
        for arch in archs:
            if not budget.allows([arch]).all():
                costs = ', '.join(f'{name} {number_text(value)}' for name, value in budget.costs(arch).items())
                raise DetNASError(
                    f'strategy.start: {space.describe(arch)} breaks a constraint. It has {costs}; the '
                    f'constraints are {" and ".join(map(str, budget.constraints))}. Give another, or start '
                    f'with random ones: --cfg-options search.strategy.start=[]'
                )

    # -- the loop -----------------------------------------------------------------------------------------------

    def run(self, evaluator: Evaluator, ledger: Ledger) -> list[Record]:
        """See :meth:`Strategy.run`; the result is the last population, and the ledger gets snapshots."""
        assert isinstance(evaluator, ArrayEvaluator)  # checked by setup

        def score(codes: np.ndarray) -> np.ndarray:
            return self._sign * evaluator.score_codes(codes)

        job = self.job
        drawn = ledger.snapshots[-1].drawn if ledger.snapshots else 0
        announce(job, ledger, f'{counted(drawn, "candidate")} drawn' if drawn else '')
        bound = self._proven_bound()
        population = self._restored(ledger, score)
        self._say_if_stuck(ledger, resumed=True)
        first, step = len(ledger.snapshots), self.candidates
        total = job.generations * step
        with progress(job, total, min(first * step, total)) as bar:
            for generation in range(first, job.generations):
                start = time.perf_counter()
                population = self.advance(generation, population, score)
                seconds = time.perf_counter() - start
                ledger.append_snapshot(self._snapshot(ledger, generation, population, seconds))
                bar.update(step)
                bar.set_postfix_str(f'best {self.objective.value(ledger.records[0]):.4f}')
                job.log(self._line(ledger, generation, seconds, bound))
                self._say_if_stuck(ledger)
        return self.objective.best_first(ledger.records)

    def artifacts(self) -> dict[str, Any]:
        """See :meth:`Strategy.artifacts`."""
        return {} if self.prover is None else self.prover.artifacts()

    def _proven_bound(self) -> float | None:
        """Returns the upper bound of the objective over all feasible candidates, if a proof is configured."""
        if self.prover is None:
            return None
        with without_proof():
            bound = float(self.prover.prove()['bound'])
        self.job.log(f'Proven: nothing in this space within these budgets exceeds {bound:.4f}.')
        return bound

    def _restored(self, ledger: Ledger, score: Callable[[np.ndarray], np.ndarray]) -> Population | None:
        """Restores the population from the last snapshot.

        Raises:
            LedgerError: If the ledger has one row for each candidate, or its rows have other scores than the evaluator
                gives.
        """
        if not ledger.snapshots:
            if ledger.records:
                raise LedgerError(f'{ledger.path} has a line for every candidate; this search writes snapshots. '
                                  f'Choose another --work-dir.')  # fmt: skip
            return None
        last = ledger.snapshots[-1]
        codes = self.space.encode([self.space.parse(record.arch) for record in last.population])
        written = np.array([self.objective.gain(record) for record in last.population])
        if not np.allclose(score(codes), written, rtol=1e-9, atol=0):
            raise LedgerError(f'{ledger.path}: its scores differ from those that the evaluator gives now. Choose '
                              f'another --work-dir.')  # fmt: skip
        # Scores as written, not as computed now: last digits may differ between machines, and change the search.
        born = np.array([r.generation if r.origin == 'mutation' else -1 for r in last.population])
        return Population(codes, written, born, last.drawn, last.evaluated)

    def _snapshot(self, ledger: Ledger, generation: int, population: Population, seconds: float) -> Snapshot:
        first = 'start' if self.start else 'random'
        rows = population.rows(self.space, self.budget, first, lambda gain: {self.objective.name: self._sign * gain})
        return Snapshot(generation, population.drawn, population.evaluated, rows, seconds,
                        socket.gethostname(), ledger.attempt)  # fmt: skip

    def _line(self, ledger: Ledger, generation: int, seconds: float, bound: float | None) -> str:
        winner = ledger.records[0]
        best, worst = (self.objective.value(ledger.records[i]) for i in (0, -1))
        gap = '' if bound is None else f', {(bound - best) / abs(bound):.3%} below the bound'
        values = f'{self.objective.name} best {best:.4f}{gap}, last of the population {worst:.4f}'
        nets = f'{counted(self.candidates, "net")} ({self.candidates / seconds:,.0f}/s)'
        return generation_line(self.job, generation, nets, values, winner, self.acceptance)

    def _say_if_stuck(self, ledger: Ledger, resumed: bool = False) -> None:
        snapshots: Sequence[Snapshot] = ledger.snapshots
        counts = np.array([(0, 0), *((snapshot.evaluated, snapshot.drawn) for snapshot in snapshots)])
        scored, drawn = np.diff(counts, axis=0).T
        bests = [self.objective.gain(snapshot.population[0]) for snapshot in snapshots]
        improved = [True, *(now > before for before, now in pairwise(bests))]
        line = stuck_line(self.job, (scored / drawn).tolist(), improved, resumed)
        if line:
            self.job.log(line)

    # -- one generation -----------------------------------------------------------------------------------------

    def advance(
        self, generation: int, population: Population | None, score: Callable[[np.ndarray], np.ndarray]
    ) -> Population:
        """Runs one generation: makes ``candidates`` children and keeps the best of them and of the population.

        Args:
            generation: Its number, from 0.
            population: The population before; None at the start.
            score: Function that returns the gains of rows, larger is better.

        Raises:
            UnmeetableConstraint: If no feasible initial candidate was found.
        """
        rng = np.random.default_rng([self.seed, generation])
        if population is None:
            population = self._begin(rng, score)
        kinds = kinds_in(self.phases, generation)
        drawn = scored = 0
        while drawn < self.candidates:
            size = min(self.batch, self.candidates - drawn)
            parents = population.codes[rng.integers(len(population.codes), size=size)]
            children = self.space.mutate_codes(parents, rng, self.mutation_prob, kinds)
            if self._windowed:
                children = self._moved_inside(children, rng, kinds)
            children = children[self.budget.allows_codes(children)]
            children = new_rows(children, population.codes)
            drawn += size
            scored += len(children)
            if len(children):
                population = population.with_children(children, score(children), generation, self.population)
        self.acceptance = scored / drawn
        return Population(population.codes, population.gains, population.born, population.drawn + drawn,
                          population.evaluated + scored)  # fmt: skip

    def _moved_inside(self, codes: np.ndarray, rng: np.random.Generator, kinds: Sequence[str] | None) -> np.ndarray:
        def change(rows: np.ndarray) -> np.ndarray:
            return self.space.mutate_codes(rows, rng, self.mutation_prob, kinds)

        return moved_inside(codes, self.budget.excess_of_codes, change)

    def _begin(self, rng: np.random.Generator, score: Callable[[np.ndarray], np.ndarray]) -> Population:
        """Makes the initial population: given architectures, or random feasible ones, or the smallest of the space."""
        empty = self.space.sample_codes(rng, 0)
        codes, drawn = (self._first, 0) if self._first is not None else (empty, 0)
        while self._first is None and len(codes) < self.population and drawn < self.max_attempts:
            found = self.space.sample_codes(rng, 1024)
            drawn += 1024
            codes = np.concatenate([codes, new_rows(found[self.budget.allows_codes(found)], codes)])
        if self._windowed and drawn and len(codes) < self.population:
            found = self._moved_inside(found, rng, None)
            codes = np.concatenate([codes, new_rows(found[self.budget.allows_codes(found)], codes)])
        smallest = self.space.smallest()
        if not len(codes) and smallest is not None and self.budget.allows([smallest]).all():
            codes = self.space.encode([smallest])
        if not len(codes):
            constraints = ' and '.join(map(str, self.budget.constraints))
            raise UnmeetableConstraint(
                f'None of {drawn:,} candidates drawn meets {constraints} (acceptance rate 0). '
                f'{self.budget.range_text()} Loosen the constraint, raise strategy.max_attempts, or give '
                f'strategy.start an architecture that meets it.'
            )
        nobody = Population(empty, np.empty(0), np.empty(0, dtype=np.int64), drawn, len(codes))
        return nobody.with_children(codes, score(codes), -1, self.population)
