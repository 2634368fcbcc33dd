"""Conformance suite for search strategies: one function to call in the test of a new strategy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from detnas_mm.search import (
    AskTell,
    Budget,
    Constraint,
    Evaluation,
    Ledger,
    LedgerError,
    Objective,
    Proposal,
    Record,
    SearchJob,
    Strategy,
    UnmeetableConstraint,
    read_ledger,
    read_snapshots,
)
from detnas_mm.search.loop import make_record
from detnas_mm.search.record import VOLATILE
from detnas_mm.testing.common import check_json, check_light_import, check_repeatable
from detnas_mm.testing.toy import ToyCost, ToyEvaluator, ToySpace

#: 4,096 architectures: more than the checked generations use.
SPACE = ToySpace(6, 4)
#: 64 architectures, of which a search runs out.
SMALL_SPACE = ToySpace(3, 4)
GENERATIONS = 4


def toy_job(
    strategy: Strategy | None = None,
    objectives: Sequence[Objective] = (Objective('score'),),
    constraint: Constraint | None = None,
    seed: int = 0,
    space: ToySpace = SPACE,
    evaluator: ToyEvaluator | None = None,
) -> SearchJob:
    """Builds a search over a toy space and sets its strategy up.

    Args:
        strategy: The strategy.
        objectives: The objectives.
        constraint: A constraint on the cost ``'toy'``; None for none.
        seed: Seed of the search.
        space: The space.
        evaluator: The evaluator. Defaults to one that gives the objectives' metrics.
    """
    job = SearchJob(
        space=space,
        objectives=list(objectives),
        budget=Budget(space, dict(toy=ToyCost(space)), [constraint] if constraint else []),
        strategy=strategy,
        evaluator=evaluator or ToyEvaluator([objective.name for objective in objectives]),
        generations=GENERATIONS,
        seed=seed,
        log=lambda text: None,
        show_progress=False,
    )
    job.prepare()
    return job


def check_strategy(make: Callable[[], AskTell], objectives: Sequence[Objective] = (Objective('score'),)) -> None:
    """Checks that a strategy fulfils the contract of :class:`~detnas_mm.search.AskTell`.

    A generation depends only on the seed and the rows so far, so a resumed search gives the same result as an
    uninterrupted one, and all ranks propose the same candidates. No architecture is proposed twice; all meet the
    constraints; failed ones are not parents. When the space is exhausted, the search ends; a constraint that nothing
    meets raises an error.

    The checks use a :class:`~detnas_mm.testing.toy.ToySpace`.

    Args:
        make: Builds a new strategy.
        objectives: Its objectives.

    Raises:
        AssertionError: If the contract is violated; says how.
    """
    check_json('spec()', make().spec())
    check_light_import(make())
    _check_generations(make, objectives)
    _check_end(make, objectives)
    _check_unmeetable(make, objectives)
    check_runs(lambda **changes: toy_job(make(), objectives, **changes))


def _set_up(
    make: Callable[[], AskTell], objectives: Sequence[Objective], constraint: Constraint | None = None, seed: int = 0
) -> tuple[AskTell, SearchJob]:
    strategy = make()
    return strategy, toy_job(strategy, objectives, constraint, seed)


def _rows(job: SearchJob, proposals: Sequence[Proposal], generation: int, first: int) -> list[Record]:
    """Returns rows as a search writes them; every fifth candidate has failed."""
    assert isinstance(job.evaluator, ToyEvaluator)
    job.evaluator.setup(job)
    rows: list[Record] = []
    ledger = Ledger(None, {})
    evaluations = job.evaluator.evaluate([proposal.arch for proposal in proposals])
    for index, (proposal, evaluation) in enumerate(zip(proposals, evaluations, strict=True), first):
        if index % 5 == 4:
            evaluation = Evaluation(failure='asked to fail')
        rows.append(make_record(job, ledger, generation, proposal, evaluation))
        ledger.append(rows[-1])
    return rows


def _check_generations(make: Callable[[], AskTell], objectives: Sequence[Objective]) -> None:
    low, high = ToyCost(SPACE).bounds()
    constraint = Constraint('toy', high=(low + high) / 2)
    strategy, job = _set_up(make, objectives, constraint)
    other, _ = _set_up(make, objectives, constraint, seed=1)
    given: list[list[Record]] = []
    seen: set[str] = set()
    for generation in range(GENERATIONS):

        def again(_: object, generation: int = generation) -> list[Proposal]:
            replayed, _ = _set_up(make, objectives, constraint)
            for number, rows in enumerate(given):
                replayed.ask(number)
                replayed.tell(rows)
            return replayed.ask(generation)

        proposals = strategy.ask(generation)
        assert proposals, f'generation {generation} is empty, though {SPACE.size - len(seen):,} candidates are left.'
        check_repeatable(f'ask({generation})', again, 0)
        assert again(None) == proposals, (
            f'ask({generation}) of a new strategy with the same rows gave other candidates: its state must depend only '
            f'on the seed and the rows, since a resumed search replays them.'
        )
        ids = [proposal.arch.id for proposal in proposals]
        twice = {i for i in ids if ids.count(i) > 1 or i in seen}
        assert not twice, f'generation {generation} proposes candidates twice: {sorted(twice)[:3]}.'
        assert job.budget.allows([p.arch for p in proposals]).all(), (
            f'generation {generation} has candidates that do not meet {constraint}.'
        )
        parents = {parent for proposal in proposals for parent in proposal.parents}
        ok = {record.id for rows in given for record in rows if record.ok}
        assert parents <= ok, f'generation {generation} has parents that failed or have no row: {parents - ok}.'
        if generation == 0:
            assert other.ask(0) != proposals, 'ask(0) is the same for two seeds.'
        seen.update(ids)
        given.append(_rows(job, proposals, generation, len(seen) - len(ids)))
        strategy.tell(given[-1])


def _check_end(make: Callable[[], AskTell], objectives: Sequence[Objective]) -> None:
    """Checks that a search ends with an empty generation when the space is exhausted."""
    strategy = make()
    job = toy_job(strategy, objectives, space=SMALL_SPACE)
    seen: set[str] = set()
    generation = 0
    while proposals := strategy.ask(generation):
        ids = {proposal.arch.id for proposal in proposals}
        assert not ids & seen, (
            f'generation {generation}, after {len(seen):,} candidates of {SMALL_SPACE.size:,}, proposes again '
            f'{sorted(ids & seen)[:3]}; if nothing new is found, the generation must be empty.'
        )
        strategy.tell(_rows(job, proposals, generation, len(seen)))
        seen |= ids
        generation += 1


def _check_unmeetable(make: Callable[[], AskTell], objectives: Sequence[Objective]) -> None:
    low, _ = ToyCost(SPACE).bounds()
    try:
        strategy, _ = _set_up(make, objectives, Constraint('toy', low=low + 0.1, high=low + 0.2))
        strategy.ask(0)
    except UnmeetableConstraint as error:
        assert 'acceptance rate' in str(error), f'the error must name the acceptance rate; it says: {error}'
    else:
        raise AssertionError(
            'setup() or ask(0) must raise UnmeetableConstraint where no candidate meets the constraints.'
        )


class _Killed(BaseException):
    """Simulates the death of the process."""


class _Stopping(ToyEvaluator):
    """Raises :class:`_Killed` after ``left`` candidates."""

    left = 0

    def evaluate(self, archs: Any) -> Any:
        for evaluation in super().evaluate(archs):
            self._count(1)
            yield evaluation

    def score_codes(self, codes: Any) -> Any:
        self._count(len(codes))
        return super().score_codes(codes)

    def _count(self, candidates: int) -> None:
        if self.left < candidates:
            raise _Killed
        self.left -= candidates


def check_runs(make_job: Callable[..., SearchJob]) -> None:
    """Checks that a killed and resumed search equals an uninterrupted one, and that all ranks agree.

    For strategies that run a loop of their own, this is the only check.

    Args:
        make_job: Builds a new search and sets its strategy up, as :func:`toy_job` does; takes ``evaluator``.

    Raises:
        AssertionError: If the rows differ.
    """
    with TemporaryDirectory() as folder:
        whole, asked = _run(make_job, Path(folder, 'whole.jsonl'))
        assert _run(make_job, None) == (whole, asked), (
            'a rank without a ledger file proposes other candidates than rank 0: candidates must not depend on the '
            'file.'
        )
        stopped = Path(folder, 'stopped.jsonl')
        try:
            for left in (0, 1, len(asked) * 9 // 10):  # at once, after the first candidate, and near the end
                job = make_job(evaluator=_Stopping(_metrics(make_job)))
                assert isinstance(job.evaluator, _Stopping)
                job.evaluator.left = left
                with suppress(_Killed):
                    _run(lambda job=job, **_: job, stopped)
            known = dict(records=read_ledger(stopped)[1], snapshots=read_snapshots(stopped))
            on_disk, in_memory = _run(make_job, stopped), _run(make_job, None, **known)
        except LedgerError as error:
            raise AssertionError(f'a resumed search proposes other candidates than before: {error}') from error
        assert on_disk[0] == whole, 'the rows of a killed and resumed search differ from those of an uninterrupted one.'
        assert in_memory == on_disk, (
            'in a resumed search, a rank that gets the rows proposes other candidates than rank 0, which reads the '
            'ledger file.'
        )


def _metrics(make_job: Callable[..., SearchJob]) -> list[str]:
    return [objective.name for objective in make_job().objectives]


def _run(make_job: Callable[..., SearchJob], path: Path | None, **known: Any) -> tuple[list[Any], list[str]]:
    """Returns rows and snapshots without volatile fields, and the candidates that were evaluated in this run."""
    job = make_job()
    assert job.strategy is not None and isinstance(job.evaluator, ToyEvaluator)
    job.evaluator.setup(job)
    with Ledger(path, job.header(), **known) as ledger:
        job.strategy.run(job.evaluator, ledger)
        rows = [record.to_json() for record in ledger.records]
        rows += [snapshot.to_json() for snapshot in ledger.snapshots]
    return [{k: v for k, v in row.items() if k not in VOLATILE} for row in rows], job.evaluator.asked
