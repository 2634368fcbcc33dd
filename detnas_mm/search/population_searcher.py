"""The loop of searches that score thousands of candidates a second: a snapshot of the population a generation."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from detnas_mm.errors import DetNASError
from detnas_mm.search.ledger import Ledger, LedgerError
from detnas_mm.search.objective import Budget, Objective, number_text
from detnas_mm.search.record import Record, Snapshot
from detnas_mm.search.strategies.exact import ExactStrategy
from detnas_mm.search.strategies.population import Population, PopulationEvolution
from detnas_mm.spaces import ArraySpace


def check_proof(strategy: Any, evaluator: Any) -> None:
    """What a strategy proves must be proven of the score that the evaluator gives.

    Raises:
        ValueError: If a strategy proves something of another score; names both.
    """
    exact = strategy.exact if isinstance(strategy, PopulationEvolution) else strategy
    if isinstance(exact, ExactStrategy) and exact.score.spec() != evaluator.spec():
        where = 'strategy.score' if exact is strategy else 'strategy.proof.score'
        remedy = '' if exact is strategy else ', or prove nothing: --cfg-options search.strategy.proof=None'
        raise DetNASError(
            f'What is proven of search.{where}, {exact.score.spec()}, does not hold of search.evaluator, '
            f'{evaluator.spec()}: give both the same settings{remedy}.'
        )


class PopulationSearcher:
    """Runs a :class:`PopulationEvolution`, and keeps a ledger of snapshots.

    Started on a ledger with snapshots, it goes on from the last one, and ends as if it had never stopped.

    Args:
        space: What can be found.
        strategy: How it is looked for.
        evaluator: How good a candidate is; it has ``score_codes(codes)`` and ``metric``.
        objectives: The one thing that is wanted: the evaluator's metric.
        budget: Costs and constraints.
        ledger: Where snapshots go.
        generations: How many snapshots.
        seed: Fixes all random draws of the search.
        log: Receives one line a generation.
        show_progress: Whether to draw a progress bar.

    Raises:
        ValueError: If ``generations`` is below 1, the evaluator scores no arrays or another metric, or the strategy
            cannot serve space and objectives, or proves something of another score.
    """

    def __init__(
        self,
        space: ArraySpace,
        strategy: PopulationEvolution,
        evaluator: Any,
        objectives: Sequence[Objective],
        budget: Budget,
        ledger: Ledger,
        generations: int = 10,
        seed: int = 0,
        log: Callable[[str], None] = print,
        show_progress: bool = True,
    ) -> None:
        if generations < 1:
            raise DetNASError(f'budget.generations must be at least 1; got {generations}.')
        if not hasattr(evaluator, 'score_codes'):
            raise DetNASError(
                f'{type(strategy).__name__} wants an evaluator that scores arrays, such as EntropyScore; '
                f'{type(evaluator).__name__} does not.'
            )
        check_proof(strategy, evaluator)
        strategy.setup(space, budget, objectives, seed)
        if objectives[0].name != evaluator.metric:
            raise DetNASError(
                f'The objective {objectives[0].name!r} is no metric of the evaluator, which gives '
                f"['{evaluator.metric}']. Mend search.objectives."
            )
        self.space = space
        self.strategy = strategy
        self.evaluator = evaluator
        self.objective = objectives[0]
        self.budget = budget
        self.ledger = ledger
        self.generations = generations
        self.log = log
        self.show_progress = show_progress
        self._sign = 1.0 if self.objective.direction == 'maximize' else -1.0

    def run(self) -> list[Record]:
        """Runs the search to its end.

        Returns:
            The rows of the last population, the best first.

        Raises:
            LedgerError: If the ledger has a row a candidate, or rows that the evaluator scores otherwise.
            UnmeetableConstraint: If not one feasible candidate was found.
        """
        for constraint in self.budget.idle_constraints():
            self.log(f'The constraint {constraint} never binds. {self.budget.range_text()}')
        bound = self.strategy.prove(self.log)
        if bound is not None:
            self.log(f'Proven: nothing in this space within these budgets exceeds {bound:.4f}.')
        population = self._restored()
        first = len(self.ledger.snapshots)
        step = self.strategy.candidates
        total = self.generations * step
        with tqdm(
            total=total, initial=min(first * step, total), unit='net', disable=not self.show_progress,
            dynamic_ncols=True, desc='search',
        ) as bar:  # fmt: skip
            for generation in range(first, self.generations):
                start = time.perf_counter()
                population = self.strategy.advance(generation, population, self._gains)
                seconds = time.perf_counter() - start
                self.ledger.append_snapshot(self._snapshot(generation, population, seconds))
                bar.update(step)
                bar.set_postfix_str(f'best {self.objective.value(self.ledger.records[0]):.4f}')
                self._summary(generation, seconds, bound)
        return self.objective.best_first(self.ledger.records)

    def _gains(self, codes: np.ndarray) -> np.ndarray:
        return self._sign * self.evaluator.score_codes(codes)

    def _restored(self) -> Population | None:
        """The population of the last snapshot."""
        if not self.ledger.snapshots:
            if self.ledger.records:
                raise LedgerError(f'{self.ledger.path} has a line for every candidate; this search writes snapshots. '
                                  f'Choose another --work-dir.')  # fmt: skip
            return None
        last = self.ledger.snapshots[-1]
        self.log(f'Going on from {self.ledger.path}: {last.drawn:,} candidates are drawn already.')
        codes = self.space.encode([self.space.parse(record.arch) for record in last.population])
        written = np.array([self.objective.gain(record) for record in last.population])
        gains = self._gains(codes)
        if not np.allclose(gains, written, rtol=1e-9, atol=0):
            raise LedgerError(f'{self.ledger.path}: its rows have other scores than the evaluator gives now. Choose '
                              f'another --work-dir.')  # fmt: skip
        # As written, not as scored now: another machine may differ in last digits, and then in what follows.
        born = np.array([r.generation if r.origin == 'mutation' else -1 for r in last.population])
        return Population(codes, written, born, last.drawn, last.evaluated)

    def _snapshot(self, generation: int, population: Population, seconds: float) -> Snapshot:
        rows = []
        costs = self.budget.costs_of_codes(population.codes)
        first = 'start' if self.strategy.start else 'random'
        for rank, arch in enumerate(self.space.decode(population.codes)):
            rows.append(
                Record(
                    index=rank,
                    generation=max(int(population.born[rank]), 0),
                    id=arch.id,
                    arch=self.space.describe(arch),
                    origin=first if population.born[rank] < 0 else 'mutation',
                    parents=(),
                    status='ok',
                    reason=None,
                    metrics={self.objective.name: float(self._sign * population.gains[rank])},
                    costs=costs[rank],
                )
            )
        return Snapshot(generation, population.drawn, population.evaluated, tuple(rows), seconds,
                        socket.gethostname(), self.ledger.attempt)  # fmt: skip

    def _summary(self, generation: int, seconds: float, bound: float | None) -> None:
        """One line about a generation."""
        best, worst = (self.objective.value(self.ledger.records[i]) for i in (0, -1))
        winner = self.ledger.records[0]
        costs = ', '.join(f'{name} {number_text(value)}' for name, value in winner.costs.items())
        rate = self.strategy.candidates / seconds
        gap = '' if bound is None else f', {(bound - best) / abs(bound):.3%} below the bound'
        self.log(
            f'generation {generation + 1}/{self.generations}: {self.strategy.candidates:,} nets ({rate:,.0f}/s); '
            f'{self.objective.name} best {best:.4f}{gap}, last of the population {worst:.4f}; best so far '
            f'{winner.arch} ({costs}); acceptance rate {self.strategy.acceptance:.1%}'
        )
