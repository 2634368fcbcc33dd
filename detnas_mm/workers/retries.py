"""Runs lost tasks again, and decides whether the task or the machine is at fault."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from detnas_mm.errors import DetNASError
from detnas_mm.workers.base import Outcome, Task, Workers


class WorkersBroken(DetNASError):
    """A task was lost at every attempt, and no other one has finished since.

    Attributes:
        reason: How it was lost, such as ``'killed 3 times by signal 9 (SIGKILL)'``.
    """

    def __init__(self, message: str, reason: str = '') -> None:
        super().__init__(message)
        self.reason = reason


def run_in_order(
    workers: Workers,
    tasks: Sequence[Task],
    retries: int = 2,
    resume: str = '',
    log: Callable[[str], None] | None = None,
    fail_lost: bool = False,
    give_up: str = '',
) -> Generator[Outcome, None, None]:
    """Runs tasks; lost ones are run again after the others.

    Args:
        workers: Workers that run the tasks.
        tasks: The tasks.
        retries: How often a lost task is run again.
        resume: Command that resumes the search, for the error.
        log: Takes a line when tasks are run again.
        fail_lost: Whether a task that is lost at every attempt is given up although no other one has finished since.
        give_up: Command that resumes the search with ``fail_lost``, for the error.

    Yields:
        Outcomes in the order of the tasks. A task without a result was lost at all ``retries`` + 1 attempts, and other
        tasks have finished since its first loss, so the task is at fault. Its ``lost`` names the reasons.

    Raises:
        WorkersBroken: If a task is lost at every attempt and no other one has finished since. All files stay.
    """
    found: dict[int, Outcome] = {}
    losses: dict[int, list[Outcome]] = {}
    proven: set[int] = set()  # lost tasks since whose first loss another one has finished
    missing, given = list(range(len(tasks))), 0
    for attempt in range(1, retries + 2):
        lost = []
        for place, outcome in workers.run([tasks[i] for i in missing]):
            index = missing[place]
            if outcome.result is None:
                losses.setdefault(index, []).append(outcome)
                lost.append(index)
                continue
            found[index] = outcome
            if outcome.worker:
                proven |= losses.keys() - {index}
            while given in found:
                yield found.pop(given)
                given += 1
        missing = sorted(lost)
        if not missing:
            return
        if log is not None:
            first = missing[0]
            log(
                f'Lost at attempt {attempt} of {retries + 1}: {len(missing)} of {len(tasks)} tasks, such as '
                f'{tasks[first].folder.name} ({losses[first][-1].lost}).'
            )
    for index in missing:
        if index not in proven and not fail_lost:
            other_way = f'To record it as failed and resume: {give_up}; to' if give_up else 'To'
            raise WorkersBroken(
                f'{tasks[index].folder.name} was {_summary(losses[index])}, and no other one has finished since: '
                f'either the machine is broken, or this one is at fault (memory?). See {tasks[index].log}. Finished '
                f'results are kept. {other_way} resume and try it again: {resume or "the same command"}',
                _summary(losses[index]),
            )
        killed = all(str(one.lost).startswith('killed ') for one in losses[index])
        found[index] = replace(
            losses[index][-1],
            lost=_summary(losses[index]) + ('; memory?' if killed else ''),
            memory=max(one.memory or 0 for one in losses[index]) or None,
        )
    while given in found:
        yield found.pop(given)
        given += 1


def _summary(lost: Sequence[Outcome]) -> str:
    """Returns how often and why a task was lost."""
    reasons = list(dict.fromkeys(str(one.lost) for one in lost))
    times = 'once' if len(lost) == 1 else f'{len(lost)} times'
    if all(reason.startswith('killed ') for reason in reasons):
        return f'killed {times} {", ".join(reason.removeprefix("killed ") for reason in reasons)}'
    return f'lost {times}: {"; ".join(reasons)}'
