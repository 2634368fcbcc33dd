"""The two source trees, and running programs in one of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Time limit of a program in seconds.
LIMIT = 1800
#: Environment variables of the caller that would affect a run.
_FOREIGN = ('DETNAS_', 'PYTHON', 'TORCHELASTIC_', 'MASTER_', 'OMP_', 'MKL_', 'CUDA_')
_RANKS = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE', 'NNODES', 'NODE_RANK', 'PORT', 'MAX_RESTARTS')


class RunError(RuntimeError):
    """A program failed, or its result does not exercise the case."""


def git(root: Path, *words: str) -> str:
    """Returns the output of a git command.

    Raises:
        RunError: If it fails; with git's message.
    """
    done = subprocess.run(['git', '-C', str(root), *words], capture_output=True, text=True)
    if done.returncode:
        raise RunError(f'git {" ".join(words)}: {done.stderr.strip()}')
    return done.stdout.strip()


class Programs:
    """The running programs, so that all of them can be killed.

    Attributes:
        stopped: Whether all were killed, after which no more are started.
    """

    def __init__(self) -> None:
        self._running: set[subprocess.Popen] = set()
        self._lock = threading.Lock()
        self.stopped = False

    @contextmanager
    def start(
        self, command: Sequence[str], folder: Path, log: Path, environment: Mapping[str, str]
    ) -> Iterator[subprocess.Popen]:
        """Starts a program in its own process group, which is killed at the end."""
        with log.open('a') as file:
            print('$', *command, file=file, flush=True)
            with self._lock:
                if self.stopped:
                    raise RunError('stopped')
                program = subprocess.Popen(
                    command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL, start_new_session=True,
                )  # fmt: skip
                self._running.add(program)
        try:
            yield program
        finally:
            kill(program)
            with self._lock:
                self._running.discard(program)

    def stop(self) -> None:
        """Kills all programs, and starts no more."""
        with self._lock:
            self.stopped = True
            for program in self._running:
                kill(program)


def kill(program: subprocess.Popen) -> None:
    """Kills a program and all processes that it has started, by SIGKILL."""
    with suppress(ProcessLookupError):  # all have ended
        os.killpg(program.pid, signal.SIGKILL)
    program.wait()


PROGRAMS = Programs()


def side_by_side(jobs: int, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """Calls a function that runs programs for each item, several in parallel; on Ctrl-C kills all programs."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            return list(pool.map(function, items))
        except BaseException:
            PROGRAMS.stop()
            raise


@dataclass(frozen=True)
class Tree:
    """One checkout of the project.

    Attributes:
        root: Its folder.
        name: Its name in messages.
        threads: Threads per program.
        digits: The Digits set for its configs.
    """

    root: Path
    name: str
    threads: int
    digits: Path

    @property
    def configs(self) -> Path:
        return self.root / 'configs'

    def environment(self) -> dict[str, str]:
        """Returns the environment of programs: this tree's package, fixed arithmetic, no settings of the caller."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN) and k not in _RANKS}
        return kept | dict(
            PYTHONPATH=str(self.root),
            PYTHONWARNINGS='ignore',
            PYTHON=sys.executable,  # for dist_search.sh
            OMP_NUM_THREADS=str(self.threads),
            CUDA_VISIBLE_DEVICES='',
            DETNAS_DIGITS=str(self.digits),
            TQDM_DISABLE='1',
            MPLBACKEND='Agg',
        )

    def check(self, folder: Path) -> None:
        """Checks that programs import this tree's package, not an installed one.

        Raises:
            RunError: If not; names the file that they import.
        """
        command = [sys.executable, '-c', 'import detnas_mm; print(detnas_mm.__file__)']
        done = subprocess.run(command, cwd=folder, env=self.environment(), capture_output=True, text=True)
        found = done.stdout.strip() or done.stderr.strip()
        if Path(found) != self.root / 'detnas_mm' / '__init__.py':
            raise RunError(f'programs of {self.root} would import another package: {found}')

    def run(self, command: Sequence[str | Path], folder: Path, log: Path) -> None:
        """Runs a program of this tree to its end.

        Raises:
            RunError: If it fails; with its last line of output.
        """
        with PROGRAMS.start([str(word) for word in command], folder, log, self.environment()) as program:
            try:
                status = program.wait(LIMIT)
            except subprocess.TimeoutExpired:
                raise RunError(f'{self.name}: still running after {LIMIT} s; see {log}') from None
        if PROGRAMS.stopped:
            raise RunError('stopped')
        if status:
            raise RunError(f'{self.name}: exit status {status}: {last_words(log)} (see {log})')

    def run_until(self, command: Sequence[str | Path], folder: Path, log: Path, reached: Callable[[], bool]) -> None:
        """Starts a program and kills it by SIGKILL as soon as ``reached()`` is true.

        Raises:
            RunError: If it ends before that.
        """
        deadline = time.monotonic() + LIMIT
        with PROGRAMS.start([str(word) for word in command], folder, log, self.environment()) as program:
            while not reached():
                if PROGRAMS.stopped:
                    raise RunError('stopped')
                if program.poll() is not None or time.monotonic() > deadline:
                    raise RunError(f'{self.name}: ended before it could be killed: {last_words(log)} (see {log})')
                time.sleep(0.005)


def last_words(log: Path) -> str:
    """Returns the most informative line of a log: the last one that begins with ``error:``, else the last one."""
    lines = [line.strip() for line in log.read_text(errors='replace').splitlines() if line.strip()]
    refusals = [line for line in lines if line.startswith('error:')]
    return (refusals or lines or ['no output'])[-1]


@dataclass
class Worktree:
    """A git worktree of a commit, created on first use and removed at the end.

    Attributes:
        repository: Any checkout of the repository.
        commit: The commit to check out.
        folder: Its folder.
        keep: Whether to keep it.
    """

    repository: Path
    commit: str
    folder: Path
    keep: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self) -> Path:
        """Checks the commit out and returns the folder."""
        with self._lock:
            if not (self.folder / '.git').exists():
                git(self.repository, 'worktree', 'prune')
                git(self.repository, 'worktree', 'add', '--quiet', '--force', '--detach', str(self.folder), self.commit)
        return self.folder

    def __enter__(self) -> Worktree:
        self._remove()  # left by a killed run
        return self

    def __exit__(self, *exc: object) -> None:
        if not self.keep:
            self._remove()

    def _remove(self) -> None:
        if self.folder.exists():
            shutil.rmtree(self.folder)
            git(self.repository, 'worktree', 'prune')
