"""Forecasts the number of trainings, the hours and the disk space of a search, before its first training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.training.folder import CANDIDATES, TRIAL
from detnas_mm.evaluators.training.trainings import TRIAL_LIMIT
from detnas_mm.search.text import counted
from detnas_mm.spaces import Architecture
from detnas_mm.workers import OUT_OF_MEMORY, Task, Workers
from detnas_mm.workers.folder import RESULT

if TYPE_CHECKING:
    from detnas_mm.search import Record, SearchJob

#: Iterations of a trial, and the factor by which trainings may take longer than trials predict: evaluation, and images
#: that are not cached.
ITERATIONS, SLOWER = 6, 1.5
#: Size of a checkpoint relative to the weights: weights and both moments of Adam, the largest optimiser state in use.
_CHECKPOINT = 3
_HIGHER = ', with a higher search.evaluator.time_limit'


class Forecast:
    """Forecasts what a search needs.

    Args:
        job: The search.
        workers: Workers that run its trainings.
        trials: Number of candidates that are trained for a few iterations to measure their time.
        keep: Which weights are kept, see :class:`.ShortTraining`.
    """

    def __init__(self, job: SearchJob, workers: Workers, trials: int, keep: str) -> None:
        self.job, self.workers, self.trials, self.keep = job, workers, trials, keep

    def announce(
        self,
        generation: Sequence[Architecture],
        rows: Sequence[Record],
        sizes: Mapping[Architecture, int],
        trial: Callable[[Architecture, int], Task],
    ) -> None:
        """Logs the forecast; runs trial trainings if no row shows how long a training takes.

        Args:
            generation: The generation that is about to be trained.
            rows: Rows of the generations before.
            sizes: Bytes of the weights of some candidates.
            trial: Makes a task that trains a candidate for a few iterations.

        Raises:
            DetNASError: If there is not enough disk space, a trial reaches its time limit, or all trials fail alike.
        """
        total = self.job.generations * len(generation)
        if self.job.space.size:
            total = min(total, int(self.job.space.size))
        left = max(total - len(rows), 1)
        disk = self._disk(max(sizes.values()), len(generation), total)
        seconds = [sum(row.time.values()) for row in rows if row.ok]
        unknown = ''
        if not seconds:
            seconds, unknown = self._tried(sizes, trial)
        assert self.job.work_dir is not None
        for folder in (self.job.work_dir / CANDIDATES).glob(f'*{TRIAL}'):  # failed, or left by a killed search
            shutil.rmtree(folder, ignore_errors=True)
        if seconds:
            share = left / min(self.workers.count, len(generation)) / 3600
            low, high = min(seconds) * share, max(seconds) * share * (1 if rows else SLOWER)
            factor, unit = (1, 'hours') if high >= 1 else (60, 'minutes')
            hours = f'{factor * low:.2g} to {factor * high:.2g} {unit} with {self.workers.count} at a time'
        else:
            hours = f'hours unknown, since {unknown}'
        self.job.log(
            f'Forecast: {counted(left, "training")} at most ({counted(self.job.generations, "generation")} of '
            f'{len(generation)}'
            f'{f", {len(rows)} done" if rows else ""}); {hours}; {disk}.'
        )

    def _disk(self, weights: int, population: int, total: int) -> str:
        """Returns a text about the disk space that the search needs.

        Raises:
            DetNASError: If there is less.
        """
        assert self.job.work_dir is not None
        # all weights of a generation are kept until it is compared with the front, which is assumed to be as large
        kept = weights * (total if self.keep == 'all' else min(2 * population, total))
        under_way = 2 * self.workers.count * _CHECKPOINT * weights
        work_dir = self.job.work_dir.absolute()
        folder = next(one for one in (work_dir, *work_dir.parents) if one.is_dir())
        free = shutil.disk_usage(folder).free
        text = f'up to {_size(kept)} of weights and {_size(under_way)} of checkpoints of running trainings'
        if kept + under_way > free:
            raise DetNASError(
                f'The disk of {folder} has {_size(free)} free, and the search may need {text}. Free some space, or '
                f'choose another --work-dir, a smaller population or fewer workers'
                f'{", or search.evaluator.keep=front" if self.keep == "all" else ""}.'
            )
        return f'disk: {text}, {_size(free)} free'

    def _tried(
        self, sizes: Mapping[Architecture, int], trial: Callable[[Architecture, int], Task]
    ) -> tuple[list[float], str]:
        """Trains the smallest, the largest and other candidates for a few iterations.

        Returns:
            Seconds that their whole trainings would take; and why there are none, if there are none.

        Raises:
            DetNASError: If one is not done within its limit of time, or all fail for the same reason, and not for
                memory: so would all candidates.
        """
        if not self.trials:
            return [], 'search.evaluator.trials is 0'
        ordered = sorted(sizes, key=lambda arch: (sizes[arch], arch.id))
        last = len(ordered) - 1
        picked = {round(place * last / max(self.trials - 1, 1)) for place in range(self.trials)}
        tasks = [trial(ordered[place], ITERATIONS) for place in sorted(picked)]
        self.job.log(
            f'Training {counted(len(tasks), "candidate")} for {ITERATIONS} iterations each, to forecast the hours …'
        )
        seconds: list[float] = []
        failed: dict[str, Task] = {}
        lost = ''
        with closing(self.workers.run(tasks)) as outcomes:
            for place, outcome in outcomes:
                result = outcome.result or {}
                if result.get('status') == 'ok':
                    seconds.append(result['iteration'] * result['iterations'] + result['seconds']['startup'])
                    shutil.rmtree(tasks[place].folder, ignore_errors=True)
                elif 'time_limit' in result:
                    (tasks[place].folder / RESULT).unlink()  # the next start tries again
                    raise DetNASError(
                        f'The trial training {tasks[place].folder.name} has not done {ITERATIONS} iterations '
                        f'within {result["time_limit"]:g} s: it hangs, or the machine is overloaded. See '
                        f'{tasks[place].log}, then start the same command again'
                        f'{_HIGHER if result["time_limit"] < TRIAL_LIMIT else ""}. search.evaluator.trials=0 skips '
                        f'trial trainings.'
                    )
                elif outcome.result is None:
                    lost = str(outcome.lost)
                else:
                    (tasks[place].folder / RESULT).unlink()  # the next start tries again
                    failed[result['reason']] = tasks[place]
        if not (seconds or lost) and len(failed) == 1 < len(tasks) and OUT_OF_MEMORY not in failed:
            ((reason, task),) = failed.items()
            raise DetNASError(
                f'All {len(tasks)} trial trainings failed for the same reason, so other candidates would, too: '
                f'{reason}. See {task.log}. Correct the config, then start the search again. search.evaluator.trials=0 '
                f'skips trial trainings.'
            )
        return seconds, f'all trials failed: {"; ".join(filter(None, [*failed, lost]))}'


def _size(count: float) -> str:
    return f'{count / 1e9:.1f} GB' if count >= 1e8 else f'{count / 1e6:.0f} MB'
