"""Resources of a process and its descendants, from Linux's /proc. Used by rehearsal.py; not a script."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def tree(pid: int) -> Iterator[int]:
    """Returns a process and all its descendants."""
    yield pid
    for task in Path(f'/proc/{pid}/task').iterdir():
        for child in (task / 'children').read_text().split():
            with contextlib.suppress(OSError):  # it has ended
                yield from tree(int(child))


def memory_kb(pid: int, kind: str) -> int:
    """Returns memory of a process in KB: ``'Rss'``, or ``'Pss'``, in which shared pages are divided by their users."""
    lines = Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f'{kind}:'))


class Watch:
    """Peak resources of a process and its descendants, by phase.

    Args:
        pid: Id of the process.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.most: dict[str, dict[str, float]] = {}
        self._before = time.perf_counter()

    def look(self, phase: str) -> None:
        """Takes a sample; the time since the last sample is added to this phase."""
        now = time.perf_counter()
        row = self.most.setdefault(
            phase, dict.fromkeys(('seconds', 'open files', 'shared MB', 'memory MB', 'process MB'), 0.0)
        )
        row['seconds'] += now - self._before
        self._before = now
        with contextlib.suppress(OSError, StopIteration):  # it ended
            for name, value in self._taken().items():
                row[name] = max(row[name], value)

    def _taken(self) -> dict[str, float]:
        files, memory = 0, 0
        for pid in tree(self.pid):
            with contextlib.suppress(OSError, StopIteration):
                files = max(files, len(os.listdir(f'/proc/{pid}/fd')))
                memory += memory_kb(pid, 'Pss')
        shm = os.statvfs(os.path.join('/proc', str(self.pid), 'root', 'dev', 'shm'))  # in its own mounts
        return {
            'open files': files,
            'shared MB': (shm.f_blocks - shm.f_bfree) * shm.f_frsize / 2**20,
            'memory MB': memory / 1024,
            'process MB': memory_kb(self.pid, 'Rss') / 1024,
        }

    def rows(self) -> list[dict[str, Any]]:
        """Returns a row per phase: seconds, most open files of a process, MB of /dev/shm, of all, of the first."""
        return [dict(phase=phase, **row) for phase, row in self.most.items()]
