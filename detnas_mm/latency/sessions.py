"""Runs sessions that measure whole nets, each in a process of its own. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detnas_mm.errors import DetNASError
from detnas_mm.latency.whole import write_session
from detnas_mm.workers import Task, Workers, WorkersBroken, run_in_order
from detnas_mm.workers.folder import RESULT


class SessionLost(DetNASError):
    """A session has left no result: it was killed at every attempt, or hung.

    Attributes:
        reason: What happened to it, such as ``'killed 3 times by signal 9 (SIGKILL)'``.
        log: File that holds what it has printed.
    """

    def __init__(self, nets: Sequence[Mapping[str, Any]], reason: str, log: Path) -> None:
        names = ', '.join(net['arch'] for net in nets)
        what = f'measures the latency of {names}' if names else 'asks which device there is'
        super().__init__(f'The session that {what} was {reason}; see {log}')
        self.reason, self.log = reason, log


class Sessions:
    """Runs sessions by workers.

    Args:
        folder: Folder of all sessions of one file of latencies.
        workers: Workers that run them.
        how: ``device``, ``threads`` and ``pace``.
        step_limit: Seconds after which a session that makes no step is ended.
    """

    def __init__(self, folder: Path, workers: Workers, how: Mapping[str, Any], step_limit: float) -> None:
        self.folder, self.workers, self.how, self.step_limit = folder, workers, how, step_limit

    def run(
        self, nets: Sequence[Mapping[str, Any]], log: Callable[[str], None], common: Sequence[Mapping[str, Any]] = ()
    ) -> dict[str, Any]:
        """Runs a session; one whose process is lost is started again.

        Args:
            nets: What is measured, see :func:`~detnas_mm.latency.whole.write_session`.
            log: Takes a line if the session is started again.
            common: Nets of earlier sessions that are measured again. They are built first, so if memory is short, a new
                net lacks it.

        Returns:
            See :func:`~detnas_mm.latency.session.measure_session`.

        Raises:
            SessionLost: If it has no result after all attempts, or hangs.
        """
        all_nets = [*common, *nets]
        wanted = json.dumps([self.how, [net['key'] for net in all_nets]])
        key = hashlib.sha256(wanted.encode()).hexdigest()[:16]
        folder = self.folder / key
        write_session(folder, all_nets, **self.how, step_limit=self.step_limit)
        command = (sys.executable, '-m', 'detnas_mm.latency.session', str(folder.absolute()), '--key', key)
        task = Task(key, command, folder)
        self.workers.check(self.folder)
        self.workers.end_others([task])  # of a search that was killed; one that does the same is waited for
        try:
            (outcome,) = run_in_order(self.workers, [task], log=log)
        except WorkersBroken as error:
            raise SessionLost(nets, error.reason, task.log) from error
        result: dict[str, Any] = dict(outcome.result or {})
        if 'hung' in result:
            (folder / RESULT).unlink()  # the next start tries again
            reason = f'ended, since it made no step for {self.step_limit:g} s (step_limit; the step: {result["hung"]})'
            raise SessionLost(nets, reason, task.log)
        if result['failed']:
            (folder / RESULT).unlink()  # the cause may be gone when these nets are measured again; the log stays
            note = f'log: {self.folder.name}/{key}/log.txt'
            result['failed'] = {net: f'{reason}; {note}' for net, reason in result['failed'].items()}
        else:
            shutil.rmtree(folder, ignore_errors=True)
        return result
