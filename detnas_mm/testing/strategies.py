"""What every search strategy must keep, as one function that a test of a new strategy calls."""

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

#: 4,096 architectures: some generations do not use it up.
SPACE = ToySpace(6, 4)
#: 64 architectures, which a search uses up.
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
    """A search over a toy space, put together in code; its strategy is set up.

    Args:
        strategy: The strategy.
        objectives: What to optimise.
        constraint: On the cost ``'toy'``.
        seed: Of the search.
        space: The space.
        evaluator: By default one that gives the objectives' metrics.
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
    """Checks that a strategy keeps the contract of :class:`~detnas_mm.search.AskTell`.

    A generation follows from the seed and the rows so far, and from nothing else, so a search that is resumed ends as
    one that was never stopped, and all ranks ask for the same. No architecture is asked for twice; all meet the
    constraints; failed ones are no parents; a space that is used up and a constraint that nothing meets end the search.

    It is checked on :class:`~detnas_mm.testing.toy.ToySpace`.

    Args:
        make: Builds a new strategy.
        objectives: What it is to optimise.

    Raises:
        AssertionError: If the contract is broken; says where.
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
    """Rows as a search would write them; every fifth candidate has failed."""
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
            f'ask({generation}) of a strategy that was given the same rows gave other candidates: its state must '
            f'follow from the seed and the rows alone, since a resumed search replays them.'
        )
        ids = [proposal.arch.id for proposal in proposals]
        twice = {i for i in ids if ids.count(i) > 1 or i in seen}
        assert not twice, f'generation {generation} asks twice for {sorted(twice)[:3]}.'
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
    """Candidates run out at last, and an empty generation says so."""
    strategy = make()
    job = toy_job(strategy, objectives, space=SMALL_SPACE)
    seen: set[str] = set()
    generation = 0
    while proposals := strategy.ask(generation):
        ids = {proposal.arch.id for proposal in proposals}
        assert not ids & seen, (
            f'generation {generation}, after {len(seen):,} candidates of {SMALL_SPACE.size:,}, asks again for '
            f'{sorted(ids & seen)[:3]}; where nothing new is found the generation must be empty.'
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
    """Stands for the end of a process."""


class _Stopping(ToyEvaluator):
    """Ends the process after so many candidates."""

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
    """Checks that a search which was killed and resumed ends as one that was not, and that ranks agree.

    It is all that holds for a strategy with a loop of its own.

    Args:
        make_job: Builds the search again, its strategy set up, as :func:`toy_job` does; takes ``evaluator``.

    Raises:
        AssertionError: If the rows differ.
    """
    with TemporaryDirectory() as folder:
        whole, asked = _run(make_job, Path(folder, 'whole.jsonl'))
        assert _run(make_job, None) == (whole, asked), (
            'a rank that keeps rows in memory alone asks for other candidates than rank 0: what is asked for must not '
            'depend on the file.'
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
            raise AssertionError(
                f'a search that was stopped asks for other candidates when it is resumed: {error}'
            ) from error
        assert on_disk[0] == whole, 'the rows of a search that was stopped and resumed are others.'
        assert in_memory == on_disk, (
            'a rank that is given the rows of a search that was stopped asks for other candidates than rank 0, which '
            'has the file.'
        )


def _metrics(make_job: Callable[..., SearchJob]) -> list[str]:
    return [objective.name for objective in make_job().objectives]


def _run(make_job: Callable[..., SearchJob], path: Path | None, **known: Any) -> tuple[list[Any], list[str]]:
    """Rows and snapshots without what may differ, and what the evaluator was asked for in this run."""
    job = make_job()
    assert job.strategy is not None and isinstance(job.evaluator, ToyEvaluator)
    job.evaluator.setup(job)
    with Ledger(path, job.header(), **known) as ledger:
        job.strategy.run(job.evaluator, ledger)
        rows = [record.to_json() for record in ledger.records]
        rows += [snapshot.to_json() for snapshot in ledger.snapshots]
    return [{k: v for k, v in row.items() if k not in VOLATILE} for row in rows], job.evaluator.asked
