"""Ask-and-tell loop of strategies: propose candidates, check constraints, evaluate, record, learn from the rows."""

from __future__ import annotations

import statistics
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from detnas_mm.checks import whole
from detnas_mm.search.budget import UnmeetableConstraint
from detnas_mm.search.evaluations import evaluations_in_order
from detnas_mm.search.evaluator import Evaluator
from detnas_mm.search.ledger import Ledger
from detnas_mm.search.loop import (
    announce,
    check_replayed,
    generation_line,
    make_record,
    progress,
    refuse_if_all_failed,
)
from detnas_mm.search.objective import pareto_front
from detnas_mm.search.record import Proposal, Record
from detnas_mm.search.strategies.base import Strategy
from detnas_mm.search.stuck import stuck_line
from detnas_mm.search.text import counted
from detnas_mm.spaces import Architecture

if TYPE_CHECKING:
    from detnas_mm.search.job import SearchJob

#: Seconds between log lines while a generation is drawn.
EVERY = 25.0
#: Maximum number of nets that are built or measured in a generation to check constraints, as a multiple of the largest
#: number of candidates that was drawn at once.
TRIED = 10


class AskTell(Strategy):
    """A strategy with an ask-and-tell interface: proposes a generation of candidates and then receives their rows.

    Its state is a function of the seed and of the rows so far: generation g is drawn from a generator seeded by
    (seed, g). Resuming replays the rows from the seed; nothing else is saved.

    Args:
        max_attempts: Number of candidates drawn in a row without a new feasible one, after which drawing stops. If nets
            must be built or measured to check a constraint, it also stops after :data:`TRIED` times the population.

    Attributes:
        records: All rows so far.
        remark: Text about the last generation for the log.
    """

    def __init__(self, max_attempts: int = 20_000) -> None:
        self.max_attempts = whole('max_attempts', max_attempts, 1)
        self.records: list[Record] = []
        self.remark = ''
        self._kept: list[Proposal] | None = None

    def setup(self, job: SearchJob) -> None:
        """See :meth:`Strategy.setup`."""
        super().setup(job)
        self.space = job.space
        self.budget = job.budget
        self.objectives = job.objectives
        self.seed = job.seed
        self.records = []
        self._seen: set[str] = set()
        self._tried: set[Architecture] = set()  # were built or measured to check constraints
        self._largest = 0
        self._kept = None

    def rehearse(self) -> None:
        """Draws the first generation and keeps it for :meth:`run`, to check early that constraints can be met.

        Skipped if nets must be measured to check a constraint.

        Raises:
            UnmeetableConstraint: If no candidate meets all constraints.
        """
        if not self.budget.dear:
            self._kept = self.ask(0)

    # -- proposing -------------------------------------------------------------------------------

    @abstractmethod
    def propose(self, generation: int, rng: np.random.Generator) -> list[Proposal]:
        """Draws one generation with :meth:`draw_new`."""

    def ask(self, generation: int) -> list[Proposal]:
        """Proposes the new candidates of a generation; empty if no new feasible candidate is left.

        Raises:
            UnmeetableConstraint: If no feasible candidate was found.
        """
        if self._kept is not None:
            proposals, self._kept = self._kept, None
            return proposals
        self._drawn = self._accepted = 0
        self._rejected: set[int] = set()  # hashes: there may be 100,000 of them
        self._before, self._spent = len(self._tried), False
        proposals = self.propose(generation, np.random.default_rng([self.seed, generation]))
        constraints = ' and '.join(map(str, self.budget.constraints))
        if not proposals and not self._seen:
            failed = self.budget.failures(self._tried)
            reasons = f'{len(failed)} of them failed: {"; ".join(sorted(set(failed.values()))[:3])}. '
            raise UnmeetableConstraint(
                f'None of {self._drawn:,} candidates drawn meets {constraints} (acceptance rate 0). '
                f'{reasons if failed else ""}{self.budget.range_text()} Loosen the constraint, or raise '
                f'strategy.{"population" if self._spent else "max_attempts"}.'
            )
        if self._spent:
            self.job.log(
                f'Generation {generation + 1} has {counted(len(proposals), "candidate")}: '
                f'{len(self._tried) - self._before} nets were tried for {constraints}, the most for a generation '
                f'({TRIED} times its candidates).'
            )
        return proposals

    def tell(self, records: Sequence[Record]) -> None:
        """Receives the rows of the generation that was proposed."""
        self.records.extend(records)

    def draw_new(self, count: int, draw: Callable[[int], list[Proposal]]) -> list[Proposal]:
        """Draws until there are ``count`` new feasible candidates, or ``max_attempts`` in a row were not.

        Args:
            count: Number of candidates needed.
            draw: Function that draws n candidates, feasible or not.

        Returns:
            At most ``count`` candidates.
        """
        found: list[Proposal] = []
        in_vain, said = 0, time.monotonic()
        self._largest = max(self._largest, count)
        while len(found) < count and in_vain < self.max_attempts and not self._spent:
            many = max(4 * (count - len(found)), 32) if in_vain == 0 else 1024
            drawn = draw(min(count - len(found) if self.budget.dear else many, self.max_attempts))
            if self.budget.dear:
                drawn = self._affordable(drawn)
            allowed = self.budget.allows([p.arch for p in drawn])
            in_vain += max(len(drawn), 1)
            if time.monotonic() - said >= EVERY:  # slow if nets are built or measured to check a constraint
                said = time.monotonic()
                limits = ' and '.join(map(str, self.budget.constraints)) or 'the space'
                self.job.log(
                    f'Drawing candidates: {self._drawn:,} so far in this generation, {self._accepted:,} of them new '
                    f'and within {limits}.'
                )
            for proposal, fits in zip(drawn, allowed):
                self._drawn += 1
                if not fits:
                    self._rejected.add(hash(proposal.arch))
                elif proposal.arch.id not in self._seen:
                    self._seen.add(proposal.arch.id)
                    self._accepted += 1
                    found.append(proposal)
                    in_vain = 0
                    if len(found) == count:
                        break
        return found

    def _affordable(self, drawn: list[Proposal]) -> list[Proposal]:
        """Returns the candidates before the first one for which more nets would be tried than a generation may."""
        meets_others = self.budget.without_dear().allows([proposal.arch for proposal in drawn])
        for place, proposal in enumerate(drawn):
            if meets_others[place] and proposal.arch not in self._tried:
                self._spent = len(self._tried) - self._before >= TRIED * self._largest
                if self._spent:
                    return drawn[:place]
                self._tried.add(proposal.arch)
        return drawn

    def draw_random(self, count: int, rng: np.random.Generator) -> list[Proposal]:
        """Draws new feasible candidates at random."""
        return self.draw_new(count, lambda n: [Proposal(arch) for arch in self.space.sample_many(rng, n)])

    # -- the loop -----------------------------------------------------------------------------------------------

    def run(self, evaluator: Evaluator, ledger: Ledger) -> list[Record]:
        """See :meth:`Strategy.run`. Replays the ledger's rows first, then evaluates what is missing."""
        job = self.job
        known = len(ledger.records)
        announce(job, ledger, counted(known, 'evaluated candidate') if known else '')
        proposals = self.ask(0)
        first = 0  # first row of this generation
        accepted: list[float] = []
        improved: list[bool] = []
        with progress(job, job.generations * len(proposals)) as bar:
            for generation in range(job.generations):
                if first <= known == len(ledger.records) < first + len(proposals):
                    self.budget.confirm(ledger.records)
                self._evaluate(evaluator, ledger, generation, proposals, first, bar)
                records = ledger.records[first : first + len(proposals)]
                first += len(proposals)
                self.tell(records)
                job.log(self._line(evaluator, ledger.records[:first], records, generation))
                # Share among new candidates only: equal children are no sign of a tight constraint.
                new = self._accepted + len(self._rejected)
                accepted.append(self._accepted / new if new else 1.0)
                improved.append(self._is_new_best(ledger.records[:first], records))
                stuck = stuck_line(job, accepted, improved)
                if stuck:
                    job.log(stuck)
                refuse_if_all_failed(ledger)
                if generation + 1 == job.generations:
                    break
                proposals = self.ask(generation + 1)
                if not proposals:
                    job.log(f'No new feasible candidate was found after generation {generation}; the search ends here.')
                    break
        evaluator.observe(ledger.records)
        return self.objectives[0].best_first(ledger.records)

    def _evaluate(
        self, evaluator: Evaluator, ledger: Ledger, generation: int, proposals: list[Proposal], first: int, bar: tqdm
    ) -> None:
        """Evaluates the candidates of a generation without a row, and writes their rows in the order proposed."""
        known = ledger.records[first : first + len(proposals)]
        check_replayed(ledger, known, proposals, generation)
        missing = proposals[len(known) :]
        bar.update(len(known))
        evaluator.observe(ledger.records[:first])
        failed: dict[Architecture, str] = {}  # could not be measured; known ones too, which nothing is compared with
        if missing:
            self.budget.measure([proposal.arch for proposal in missing])
            failed = self.budget.failures([proposal.arch for proposal in proposals])
            evaluator.expect([proposal for proposal in proposals if proposal.arch not in failed])
        # The first candidate is evaluated alone, so that a wrong objective costs one evaluation.
        alone = 0
        if not ledger.records and evaluator.first_alone:
            alone = 1 + next((i for i, proposal in enumerate(missing) if proposal.arch not in failed), len(missing))
        for part in (missing[:alone], missing[alone:]):
            if not part:
                continue
            # Closed on errors too, which ends the work for other candidates.
            archs = [proposal.arch for proposal in part]
            with closing(evaluations_in_order(evaluator, archs, failed, self.job)) as evaluations:
                for proposal, evaluation in zip(part, evaluations, strict=True):
                    ledger.append(make_record(self.job, ledger, generation, proposal, evaluation))
                    bar.update(1)
                    best = self.objectives[0].best_first(ledger.records)
                    if best:
                        bar.set_postfix_str(f'best {self.objectives[0].value(best[0]):.4f} {best[0].arch}')

    def _is_new_best(self, so_far: list[Record], records: list[Record]) -> bool:
        """Returns True if a generation has added a row to the front with objectives that no earlier row has."""
        known = {self._gains(record) for record in so_far[: len(so_far) - len(records)] if record.ok}
        front = pareto_front(so_far, self.objectives) if any(record.ok for record in records) else []
        return any(self._gains(record) not in known for record in front)

    def _gains(self, record: Record) -> tuple[float, ...]:
        return tuple(objective.gain(record) for objective in self.objectives)

    def _line(self, evaluator: Evaluator, so_far: list[Record], records: list[Record], generation: int) -> str:
        objective = self.objectives[0]
        ok = objective.best_first(records)
        nets = counted(len(records), 'net')
        for status, text in (('failed', 'failed'), ('dropped', 'dropped early')):
            count = sum(record.status == status for record in records)
            nets += f', {count} {text}' if count else ''
        remark = evaluator.remark(so_far)
        nets += f' ({remark})' if remark else ''
        front = pareto_front(so_far, self.objectives) if ok else []
        values = ''
        if ok:
            median = statistics.median(map(objective.value, ok))
            values = f'{objective.name} best {objective.value(ok[0]):.4f}, median {median:.4f}'
        several = f'{counted(len(front), "net")} on the front' if len(self.objectives) > 1 and front else ''
        acceptance = self._accepted / max(self._drawn, 1)
        return generation_line(
            self.job, generation, nets, values, front[0] if front else None, acceptance, several, self.remark
        )
