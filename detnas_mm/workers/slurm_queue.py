"""Commands of slurm, and what it answers about jobs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable

#: Consecutive failures after which ``squeue`` is reported.
_FAILURES = 3


class Queue:
    """Asks slurm for the jobs of one name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._failures = 0

    def ask(self, jobs: Iterable[str] = ()) -> dict[str, str] | None:
        """Returns the jobs that are waiting or running, with their nodes ('' without one); None without an answer.

        Args:
            jobs: Their numbers. Defaults to all of the name.
        """
        numbers = ','.join(dict.fromkeys(job.partition('_')[0] for job in jobs))
        which = f'--jobs={numbers}' if numbers else f'--name={self.name}'
        answer = call('squeue', '--noheader', '--array', '--format=%i|%j|%N', which)
        if answer.returncode and 'Invalid job id' not in answer.stderr:
            self._failures += 1
            if self._failures == _FAILURES:
                print(f'squeue fails ({said(answer)}) and is called again.', file=sys.stderr, flush=True)
            return None
        self._failures = 0
        lines = (line.split('|') for line in answer.stdout.splitlines())
        return {job: node for job, name, node in lines if name == self.name}


def call(*command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of slurm; no answer within 2 minutes counts as a failure."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(('SQUEUE_', 'SINFO_'))}
    try:
        return subprocess.run(command, env=env | dict(LC_ALL='C'), capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, '', str(error))


def said(answer: subprocess.CompletedProcess[str]) -> str:
    """Returns why a command of slurm has failed, in one line."""
    return '; '.join(answer.stderr.split('\n')).strip('; ') or f'exit {answer.returncode}'
