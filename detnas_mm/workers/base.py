"""Interface of workers."""

from __future__ import annotations

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnas_mm.checks import whole
from detnas_mm.errors import ChecksInput, DetNASError
from detnas_mm.workers.folder import read_result

#: The folder that this package is imported from, for commands that are started in other folders.
_ROOT = str(Path(__file__).resolve().parents[2])
#: Environment variables from which libraries read their number of threads.
_THREADS = (
    'OMP_NUM_THREADS',
    'MKL_NUM_THREADS',
    'OPENBLAS_NUM_THREADS',
    'NUMEXPR_NUM_THREADS',
    'VECLIB_MAXIMUM_THREADS',
    'RAYON_NUM_THREADS',
)


@dataclass(frozen=True)
class Task:
    """One command and the folder that it works in.

    The command locks its folder while it runs (:func:`~detnas_mm.workers.folder.hold`), resumes from the files there,
    and writes its result last (:func:`~detnas_mm.workers.folder.write_result`). It may be killed and started again at
    any time.

    Attributes:
        key: Identifies the work. A result with another key is not a result of this task.
        command: Program and arguments. It is started in the current folder; its output is appended to ``log``.
        folder: The command's folder. It exists.
        time_limit: Seconds after which the command ends by itself, with a result that says so; None for no limit.
    """

    key: str
    command: tuple[str, ...]
    folder: Path
    time_limit: float | None = None

    @property
    def log(self) -> Path:
        """File with the output of the command, of all its starts."""
        return self.folder / 'log.txt'


@dataclass(frozen=True)
class Outcome:
    """Outcome of a task: its result, or how it was lost.

    Attributes:
        result: Result that the command wrote, or None: the task is lost.
        lost: Why there is no result, such as ``'killed by signal 9 (SIGKILL)'``; None if there is one.
        worker: Slot of this machine, or node, that ran it; ``''`` if it had its result before.
        memory: Peak memory (bytes) of the command's processes, if known.
        host: Machine that ran it, where that is known; ``''`` if it may be this one. A result may name it, too.
    """

    result: dict[str, Any] | None
    lost: str | None = None
    worker: str = ''
    memory: int | None = None
    host: str = ''


def how_lost(status: int, task: Task) -> str:
    """Returns how a command that has left no result has ended, in the same words for all workers.

    Args:
        status: Its exit status; if a signal has killed it, the negative number of the signal.
        task: Its task.
    """
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else 'unknown'
        return f'killed by signal {-status} ({name})'
    return f'exit {status} without a result; see {task.log}'


def finished(tasks: Sequence[Task]) -> dict[int, Outcome]:
    """Returns the outcomes of tasks that have their results already, by index."""
    results = {place: read_result(task.folder, task.key) for place, task in enumerate(tasks)}
    return {place: Outcome(result) for place, result in results.items() if result is not None}


class Workers(ChecksInput, ABC):
    """Runs commands, several at a time.

    Args:
        count: Number of commands that run at a time; at least 1.
        threads: CPU threads of a command; at least 1.

    Attributes:
        count: See Args. Results do not depend on it.
        threads: See Args. The last digits of results depend on it.
        longest: Seconds after which these workers kill a command; None if they do not.
    """

    longest: float | None = None

    def __init__(self, count: int, threads: int) -> None:
        self.count = whole('count', count, 1)
        self.threads = whole('threads', threads, 1)

    def check(self, work_dir: Path) -> None:
        """Checks the settings, before anything long begins.

        Args:
            work_dir: The folder that holds the folders of the tasks.

        Raises:
            DetNASError: If this machine or cluster cannot run such commands; names the setting and what to do.
        """

    def spec(self) -> dict[str, Any]:
        """Returns the settings that results depend on, JSON-ready."""
        return dict(threads=self.threads)

    def time_limit(self, asked: float | None) -> float | None:
        """Returns the time limit of tasks in seconds; None for no limit.

        Args:
            asked: The user's limit in seconds, or None: :attr:`longest`.

        Raises:
            DetNASError: If these workers kill a command before the limit is reached.
        """
        if asked is not None and self.longest is not None and asked > self.longest:
            raise DetNASError(
                f'time_limit is {asked:g} s, but these workers kill a command that takes longer than {self.longest:g} '
                f's. Set time_limit to at most {self.longest:g}, or raise the timeout of the workers.'
            )
        return self.longest if asked is None else asked

    def has_gpu(self) -> bool | None:
        """Returns whether commands see a GPU; None, by default, if this process cannot find out."""
        return None

    @abstractmethod
    def run(self, tasks: Sequence[Task]) -> Generator[tuple[int, Outcome], None, None]:
        """Runs each task once; a task that has its result already is not run.

        If the generator is closed before its end, as by an error, the commands are ended.

        Args:
            tasks: The tasks, each with a folder of its own. They are started in this order.

        Yields:
            Index of a task and its outcome, in the order in which they finish.
        """

    def end_others(self, tasks: Sequence[Task]) -> None:
        """Ends commands that an earlier process has left running for tasks below the folder given to :meth:`check`.

        By default there are none: commands end with the process that started them.

        Args:
            tasks: Tasks whose commands may keep running.
        """

    def environment(self) -> dict[str, str]:
        """Returns environment variables of a command: its threads, and the path that this package is imported from."""
        path = os.environ.get('PYTHONPATH', '')
        found = _ROOT.endswith('-packages') or _ROOT in path.split(os.pathsep)  # by every process anyway
        return dict.fromkeys(_THREADS, str(self.threads)) | dict(
            PYTHONPATH=path if found else os.pathsep.join(filter(None, [path, _ROOT]))
        )
