"""The interface of workers: commands in, results out."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnas_mm.checks import whole
from detnas_mm.errors import ChecksInput, DetNASError

#: The folder that this package is imported from, for commands that are started in other folders.
_ROOT = str(Path(__file__).resolve().parents[2])
#: By what libraries know their number of threads.
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

    The command holds its folder while it works (:func:`~detnas_mm.workers.folder.hold`), resumes from what lies there,
    and writes the result (:func:`~detnas_mm.workers.folder.write_result`) as its last act. It may be killed at any
    time and started again.

    Attributes:
        key: Identifies the work. A result that carries another key is not this task's.
        command: Program and arguments. It is started in the current folder; what it prints is added to ``log``.
        folder: The command's folder. It exists.
        time_limit: Seconds after which the command ends by itself, with a result that says so; None: it may take as
            long as it takes.
    """

    key: str
    command: tuple[str, ...]
    folder: Path
    time_limit: float | None = None

    @property
    def log(self) -> Path:
        """What the command has printed, of all its starts."""
        return self.folder / 'log.txt'


@dataclass(frozen=True)
class Outcome:
    """What has become of a task.

    Attributes:
        result: What the command wrote, or None: the task is lost.
        lost: Why there is no result: ``'killed by signal 9 (SIGKILL)'``; None where there is one.
        worker: Where it ran: a slot of this machine, or a node. ``''`` where the result stood already.
        memory: The most memory (bytes) that a process of the command had, where that is known.
        host: Machine that ran it, where that is known; ``''`` if it may be this one. A result may name it, too.
    """

    result: dict[str, Any] | None
    lost: str | None = None
    worker: str = ''
    memory: int | None = None
    host: str = ''


class Workers(ChecksInput, ABC):
    """Runs commands, several at a time.

    Args:
        count: How many at a time; at least 1.
        threads: CPU threads of a command; at least 1.

    Attributes:
        count: See Args.
        threads: See Args. Results depend on it to the last bit, on ``count`` they do not.
        longest: The most seconds that a command may take before it is killed; None: there is no such limit.
    """

    longest: float | None = None

    def __init__(self, count: int, threads: int) -> None:
        self.count = whole('count', count, 1)
        self.threads = whole('threads', threads, 1)

    def check(self, work_dir: Path) -> None:
        """Refuses what cannot work, before anything long begins.

        Args:
            work_dir: The folder that holds those of the tasks.

        Raises:
            DetNASError: Names the setting, what there is, and what to do.
        """

    def spec(self) -> dict[str, Any]:
        """What results depend on, JSON-ready."""
        return dict(threads=self.threads)

    def time_limit(self, asked: float | None) -> float | None:
        """The limit of time to give to tasks.

        Args:
            asked: The user's limit in seconds, or None.

        Returns:
            ``asked``; without it, :attr:`longest`.

        Raises:
            DetNASError: If a command that takes that long would be killed before it ends by itself.
        """
        if asked is not None and self.longest is not None and asked > self.longest:
            raise DetNASError(
                f'time_limit is {asked:g} s, but these workers kill a command that takes longer than {self.longest:g} '
                f's. Set time_limit to at most that, or give the workers more time.'
            )
        return self.longest if asked is None else asked

    @abstractmethod
    def run(self, tasks: Sequence[Task]) -> Generator[tuple[int, Outcome], None, None]:
        """Runs tasks; each once, and those whose result stands already not at all.

        Where the iterator is closed before its end, as by an error, the commands are ended.

        Args:
            tasks: The tasks, each with a folder of its own. They are started in this order.

        Yields:
            Place of a task and its outcome, as they finish.
        """

    def end_others(self, tasks: Sequence[Task]) -> None:
        """Ends commands that an earlier process has left running below the folder given to :meth:`check`.

        By default there are none: commands end with the process that started them.

        Args:
            tasks: Tasks whose commands may keep running.
        """

    def environment(self) -> dict[str, str]:
        """Environment variables of a command: its threads, and where this package is imported from."""
        path = os.environ.get('PYTHONPATH', '')
        found = _ROOT.endswith('-packages') or _ROOT in path.split(os.pathsep)  # by every process anyway
        return dict.fromkeys(_THREADS, str(self.threads)) | dict(
            PYTHONPATH=path if found else os.pathsep.join(filter(None, [path, _ROOT]))
        )
