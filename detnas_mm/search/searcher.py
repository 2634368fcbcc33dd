"""The loop of every search: ask, constrain, evaluate, record, tell."""

from __future__ import annotations

import math
import socket
import statistics
from collections.abc import Callable, Mapping, Sequence

from tqdm import tqdm

from detnas_mm.errors import DetNASError
from detnas_mm.search.ledger import Ledger, LedgerError
from detnas_mm.search.objective import Budget, Objective, number_text, pareto_front
from detnas_mm.search.record import Evaluation, EvaluatorLike, Proposal, Record
from detnas_mm.search.strategies.base import Strategy
from detnas_mm.spaces import SearchSpace


class Searcher:
    """Runs a strategy over a space with an evaluator, and keeps a ledger.

    Started on a ledger with rows, it asks and tells through them first and evaluates only what is missing.

    Args:
        space: What can be found.
        strategy: How it is looked for.
        evaluator: How good a candidate is.
        objectives: What is wanted; the first one ranks.
        budget: Costs and constraints.
        ledger: Where rows go.
        generations: How often the strategy is asked.
        seed: Fixes all random draws of the search.
        log: Receives one line a generation.
        show_progress: Whether to draw a progress bar.

    Raises:
        ValueError: If ``generations`` is below 1, or the strategy cannot serve the objectives.
    """

    def __init__(
        self,
        space: SearchSpace,
        strategy: Strategy,
        evaluator: EvaluatorLike,
        objectives: Sequence[Objective],
        budget: Budget,
        ledger: Ledger,
        generations: int = 20,
        seed: int = 0,
        log: Callable[[str], None] = print,
        show_progress: bool = True,
    ) -> None:
        if generations < 1:
            raise DetNASError(f'budget.generations must be at least 1; got {generations}.')
        if not objectives:
            raise DetNASError('search.objectives is empty: name the metric to optimise.')
        self.space = space
        self.strategy = strategy
        self.evaluator = evaluator
        self.objectives = list(objectives)
        self.budget = budget
        self.ledger = ledger
        self.generations = generations
        self.log = log
        self.show_progress = show_progress
        self._told = 0  # rows of the ledger that the strategy knows
        strategy.log = log
        strategy.setup(space, budget, objectives, seed)

    def run(self) -> list[Record]:
        """Runs the search to its end.

        Returns:
            All successful rows, the best in the first objective first.

        Raises:
            LedgerError: If the ledger's rows are not those that this strategy asks for.
            UnmeetableConstraint: If not one feasible candidate was found.
            ValueError: If the evaluator does not give an objective's metric.
        """
        objective = self.objectives[0]
        for constraint in self.budget.idle_constraints():
            self.log(f'The constraint {constraint} never binds. {self.budget.range_text()}')
        done = len(self.ledger.records)
        if done:
            self.log(f'Going on from {self.ledger.path}: {done} candidates are evaluated already.')
        proposals = self.strategy.ask(0)
        total = self.generations * len(proposals)
        bar = tqdm(total=total, unit='net', disable=not self.show_progress, dynamic_ncols=True, desc='search')
        with bar:
            for generation in range(self.generations):
                records = self._generation(generation, proposals, bar)
                self.strategy.tell(records)
                self._summary(generation, records)
                if not any(record.ok for record in self.ledger.records):
                    self.log(f'All {len(records)} candidates failed; the search ends here.')
                    break
                if generation + 1 == self.generations:
                    break
                proposals = self.strategy.ask(generation + 1)
                if not proposals:
                    self.log(f'No new feasible candidate is left after generation {generation}; the search ends here.')
                    break
        return objective.best_first(self.ledger.records)

    def _generation(self, generation: int, proposals: list[Proposal], bar: tqdm) -> list[Record]:
        """Evaluates what is missing of one generation; returns all its rows, in the order asked for."""
        known = self.ledger.records[self._told : self._told + len(proposals)]
        if [(r.id, r.generation) for r in known] != [(p.arch.id, generation) for p in proposals[: len(known)]]:
            raise LedgerError(
                f'{self.ledger.path}: its rows are not the ones that this search asks for in generation {generation}. '
                f'The code that draws candidates has changed since; finish that search with the version that began '
                f'it, or choose another --work-dir.'
            )
        missing = proposals[len(known) :]
        bar.update(len(known))
        self.evaluator.observe(self.ledger.records[: self._told], self.objectives)
        # The very first candidate goes alone, so that a mistaken objective costs one evaluation.
        alone = 0 if self.ledger.records else 1
        for part in (missing[:alone], missing[alone:]):
            evaluations = self.evaluator.evaluate([p.arch for p in part]) if part else iter(())
            for proposal, evaluation in zip(part, evaluations, strict=True):
                self.ledger.append(self._record(generation, proposal, evaluation))
                bar.update(1)
                self._show_best(bar)
        self._told += len(proposals)
        return self.ledger.records[self._told - len(proposals) : self._told]

    def _record(self, generation: int, proposal: Proposal, evaluation: Evaluation) -> Record:
        status, reason = evaluation.status, evaluation.failure or evaluation.dropped
        costs = self.budget.costs(proposal.arch)
        for objective in self.objectives:
            if reason is None and objective.name not in evaluation.metrics and objective.name not in costs:
                raise DetNASError(
                    f'The objective {objective.name!r} is no metric that the evaluator gives on these images; it gives '
                    f'{sorted(evaluation.metrics)}, and no cost, of which there are {sorted(costs)}. Mend '
                    f'search.objectives.'
                )
            if reason is None and not math.isfinite(evaluation.metrics.get(objective.name, 0.0)):
                status, reason = 'failed', f'{objective.name} is {evaluation.metrics[objective.name]}'
        return Record(
            index=len(self.ledger.records),
            generation=generation,
            id=proposal.arch.id,
            arch=self.space.describe(proposal.arch),
            origin=proposal.origin,
            parents=proposal.parents,
            status=status,
            reason=reason,
            metrics=_finite(evaluation.metrics),
            costs=costs,
            time=evaluation.time,
            host=socket.gethostname(),
            attempt=self.ledger.attempt,
            images=evaluation.images,
            partial={images: _finite(metrics) for images, metrics in evaluation.partial.items()},
        )

    def _show_best(self, bar: tqdm) -> None:
        best = self.objectives[0].best_first(self.ledger.records)
        if best:
            bar.set_postfix_str(f'best {self.objectives[0].value(best[0]):.4f} {best[0].arch}')

    def _saved(self, records: list[Record]) -> str:
        """Which part of the images rows were not judged on; of a generation that was dropped whole, too."""
        full = max(r.images or 0 for r in self.ledger.records)
        if not full:
            return ''
        saved = 1 - sum(full if r.images is None else r.images for r in records) / (full * len(records))
        return f' (saved {saved:.0%} of the images)'

    def _summary(self, generation: int, records: list[Record]) -> None:
        """One line about a generation."""
        first = self.objectives[0]
        ok = self.objectives[0].best_first(records)
        text = f'generation {generation + 1}/{self.generations}: {len(records)} nets'
        failed, dropped = (sum(r.status == status for r in records) for status in ('failed', 'dropped'))
        if failed:
            text += f', {failed} failed'
        if dropped:
            text += f', {dropped} dropped early{self._saved(records)}'
        if ok:
            front = pareto_front(self.ledger.records, self.objectives)
            median = statistics.median(map(first.value, ok))
            costs = ', '.join(f'{key} {number_text(value)}' for key, value in front[0].costs.items())
            text += f'; {first.name} best {first.value(ok[0]):.4f}, median {median:.4f}'
            text += f'; best so far {first.value(front[0]):.4f} {front[0].arch} ({costs})'
            if len(self.objectives) > 1:
                text += f'; {len(front)} nets on the front'
        remark = f'; {self.strategy.remark}' if self.strategy.remark else ''
        self.log(f'{text}; acceptance rate {self.strategy.acceptance:.1%}{remark}')


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """What a JSON line can hold of metrics."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
