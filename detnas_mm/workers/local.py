"""Workers on this machine: slots, each with its own GPU. Needs only the standard library."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from detnas_mm.compat import cuda_usable
from detnas_mm.errors import DetNASError
from detnas_mm.registry import WORKERS
from detnas_mm.workers.base import Outcome, Task, Workers, finished, how_lost
from detnas_mm.workers.folder import read_result

_KEEPER = str(Path(__file__).with_name('keeper.py'))


@WORKERS.register_module()
class LocalWorkers(Workers):
    """Runs commands on this machine, ``count`` at a time.

    A command runs in a process group of its own. The whole group is killed when the command or this process ends, for
    whatever reason.

    Args:
        count: Number of commands that run at a time; at least 1. Defaults to 1.
        threads: CPU threads of a command; at least 1. Defaults to 1.
        gpus: GPUs to assign, one for each worker, as ``CUDA_VISIBLE_DEVICES`` names them; a GPU that is listed twice is
            used by two workers. An empty list hides all GPUs. Defaults to None: the GPUs that this process sees, one
            for each worker; if it sees none, ``CUDA_VISIBLE_DEVICES`` is not changed.
    """

    def __init__(self, count: int = 1, threads: int = 1, gpus: Sequence[int | str] | None = None) -> None:
        super().__init__(count, threads)
        if gpus is not None and (isinstance(gpus, (str, int)) or not all(isinstance(g, (int, str)) for g in gpus)):
            raise DetNASError(f'gpus must be a list of GPUs, such as [0, 1], or [] for none; got {gpus!r}.')
        self.gpus = None if gpus is None else [str(gpu) for gpu in gpus]

    def check(self, work_dir: Path) -> None:
        given = self._assigned()
        if given and self.count > len(given):
            raise DetNASError(
                f'{self.count} workers need a GPU each, and there are {len(given)}: {", ".join(given)}. Set count to '
                f'at most {len(given)}, or gpus=[] for the CPU, or list a GPU more than once in gpus.'
            )
        visible = _visible_gpus()
        unknown = [gpu for gpu in self.gpus or [] if gpu.isdecimal() and gpu not in visible]
        if unknown:
            raise DetNASError(
                f'gpus: there is no GPU {", ".join(unknown)}; this process sees: {", ".join(visible) or "none"}.'
            )

    def has_gpu(self) -> bool:
        return self.gpus != [] and cuda_usable()

    def _assigned(self) -> list[str]:
        return _visible_gpus() if self.gpus is None else self.gpus

    def _environments(self) -> list[dict[str, str]]:
        """Returns the environment of the commands of each slot."""
        given = self._assigned()
        if given:
            gpus = [dict(CUDA_VISIBLE_DEVICES=given[slot % len(given)]) for slot in range(self.count)]
        else:
            gpus = [dict(CUDA_VISIBLE_DEVICES='') if self.gpus is not None else {}] * self.count
        return [os.environ | self.environment() | gpu for gpu in gpus]

    def run(self, tasks: Sequence[Task]) -> Generator[tuple[int, Outcome], None, None]:
        done = finished(tasks)
        yield from done.items()
        waiting = [place for place in range(len(tasks)) if place not in done]
        environments = self._environments()
        free = list(range(self.count))
        running: dict[int, _Running] = {}
        with selectors.DefaultSelector() as selector:
            try:
                while waiting or running:
                    while waiting and free:
                        place, slot = waiting.pop(0), free.pop(0)
                        running[place] = _Running(tasks[place], slot, environments[slot])
                        selector.register(running[place].output, selectors.EVENT_READ, place)
                    for ready, _ in selector.select():
                        place = ready.data
                        selector.unregister(ready.fileobj)
                        ended = running.pop(place)
                        free = sorted([*free, ended.slot])
                        yield place, ended.outcome()
            finally:
                for one in running.values():
                    one.end()


class _Running:
    """A command in a process group of its own."""

    def __init__(self, task: Task, slot: int, env: dict[str, str]) -> None:
        self.task, self.slot = task, slot
        gpu = env.get('CUDA_VISIBLE_DEVICES')
        self.name = f'worker {slot}, GPU {gpu}' if gpu else f'worker {slot}'
        with task.log.open('ab') as log:
            self.keeper = subprocess.Popen(
                [sys.executable, '-I', '-S', _KEEPER, *task.command],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=env, start_new_session=True,
            )  # fmt: skip

    @property
    def output(self) -> Any:
        return self.keeper.stdout

    def end(self) -> None:
        """Kills the whole group. The system reuses its number only after the keeper was waited for."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.keeper.pid, signal.SIGKILL)
        self.keeper.communicate()

    def outcome(self) -> Outcome:
        """Returns the outcome of a command, after its keeper has written it or has ended."""
        line = self.output.readline()
        self.end()
        said = json.loads(line) if line.endswith(b'\n') else {}
        result = read_result(self.task.folder, self.task.key)
        lost = None if result is not None else _reason(said, self.keeper.returncode, self.task)
        return Outcome(result, lost, self.name, said.get('memory'))


def _reason(said: dict[str, Any], keeper: int, task: Task) -> str:
    """Returns why a command has left no result.

    Args:
        said: The line that its keeper has written.
        keeper: Exit status of the keeper.
        task: Its task.
    """
    status = said.get('status')
    if 'refused' in said:
        return f'cannot be started: {said["refused"]}'
    if status is None:
        return 'killed with all its processes' if keeper < 0 else f'its parent process has failed; see {task.log}'
    return how_lost(status, task)


def _visible_gpus() -> list[str]:
    """Returns the GPUs that this process sees, as ``CUDA_VISIBLE_DEVICES`` names them."""
    named = os.environ.get('CUDA_VISIBLE_DEVICES')
    if named is not None:
        return [gpu.strip() for gpu in named.split(',') if gpu.strip() not in ('', '-1')]
    tool = shutil.which('nvidia-smi')
    if tool is None:
        return []
    listed = subprocess.run([tool, '-L'], capture_output=True, text=True)
    lines = listed.stdout.splitlines() if listed.returncode == 0 else []
    return [str(i) for i in range(sum(line.startswith('GPU ') for line in lines))]
