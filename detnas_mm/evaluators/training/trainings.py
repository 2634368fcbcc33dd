"""Runs the trainings of candidates as tasks of workers."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from detnas_mm.evaluators.training.folder import LOST, Candidate, key_of, read_json
from detnas_mm.evaluators.training.progress import Watched
from detnas_mm.files import write_json
from detnas_mm.workers import Outcome, Task, Workers, read_result, run_in_order

if TYPE_CHECKING:
    from detnas_mm.search import SearchJob

_COMMAND = 'detnas_mm.engine.candidate'
#: Seconds that a trial may take at most: importing, reading the annotations, and a few iterations.
TRIAL_LIMIT = 3600.0


class Trainings:
    """Runs trainings of candidates.

    Args:
        job: The search.
        workers: Workers that run the trainings.
        time_limit: Seconds that a training may take; None for no limit.
        retries: How often a lost training is started again.
    """

    def __init__(self, job: SearchJob, workers: Workers, time_limit: float | None, retries: int) -> None:
        self.job, self.workers, self.retries = job, workers, retries
        self.time_limit = workers.time_limit(time_limit)

    def task(self, candidate: Candidate, until: int | None, trial: int | None = None) -> Task:
        """Returns the task that trains a candidate.

        Args:
            candidate: The candidate.
            until: Epoch or iteration at which the training stops for now; None for its end.
            trial: Train for this many iterations only, to measure their time.
        """
        limit = self.time_limit
        if trial is not None:
            limit = TRIAL_LIMIT if limit is None else min(limit, TRIAL_LIMIT)
        options = {
            '--key': (key := key_of(candidate.work, until)),
            '--threads': self.workers.threads,
            '--until': until,
            '--time-limit': limit,
            '--inherit': candidate.inherit,
            '--trial': trial,
        }
        words = [word for name, value in options.items() if value is not None for word in (name, str(value))]
        return Task(key, (sys.executable, '-m', _COMMAND, str(candidate.folder), *words), candidate.folder, limit)

    def run(self, candidates: Sequence[Candidate], until: int | None) -> Generator[Outcome, None, None]:
        """Trains candidates that have no result yet.

        A candidate that was lost at every attempt stays lost when a search resumes within its generation, since the
        others may have been compared without it.

        Args:
            candidates: The candidates.
            until: See :meth:`task`.

        Yields:
            Outcomes in the order of the candidates.

        Raises:
            WorkersBroken: See :func:`~detnas_mm.workers.run_in_order`.
        """
        lost = {candidate.id: outcome for candidate in candidates if (outcome := _lost_before(candidate, until))}
        tasks = [self.task(candidate, until) for candidate in candidates if candidate.id not in lost]
        ran = run_in_order(
            self.workers, tasks, self.retries, self.job.command(), self.job.log, self.job.fail_lost,
            self.job.command('--fail-lost'),
        )  # fmt: skip
        with closing(ran) as outcomes, Watched(self.job, candidates, until) as watched:
            for candidate in candidates:
                outcome = lost.get(candidate.id) or next(outcomes)
                if outcome.result is None:
                    note = dict(key=key_of(candidate.work, until), lost=outcome.lost, memory=outcome.memory)
                    write_json(candidate.folder / LOST, note | dict(host=outcome.host))
                watched.finished()
                yield outcome
            for _ in outcomes:  # lets the last worker end
                pass


def _lost_before(candidate: Candidate, until: int | None) -> Outcome | None:
    """Returns how a candidate was lost at an earlier start; None if it was not, or has a result since."""
    key = key_of(candidate.work, until)
    note = read_json(candidate.folder / LOST)
    if note.get('key') != key or read_result(candidate.folder, key) is not None:
        return None
    return Outcome(None, note['lost'], memory=note['memory'], host=note.get('host', ''))
