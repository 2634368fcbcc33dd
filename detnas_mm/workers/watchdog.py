"""Ends a process that hangs or has reached its time limit."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

#: Seconds that the thread has to write the result before ``faulthandler`` ends the process.
_GRACE = 120.0


class Watchdog:
    """Context manager that ends this process if a step in its block takes too long.

    A thread writes the result and ends the process. If no Python thread can run, as in a C extension that hangs,
    ``faulthandler`` prints all tracebacks and ends the process 2 minutes later, without a result.

    Args:
        seconds: Longest time of a step.
        write: Writes the result of the task; takes the name of the step that took too long.
    """

    def __init__(self, seconds: float, write: Callable[[str], Any]) -> None:
        self.seconds, self.write = seconds, write
        self._step = ''
        self._end = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watchdog:
        self.step('start')
        self._thread.start()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._over.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()

    def step(self, name: str) -> None:
        """Begins a step and restarts the clock."""
        self._step, self._end = name, time.monotonic() + self.seconds
        faulthandler.dump_traceback_later(self.seconds + _GRACE, exit=True, file=2)  # standard error

    def _watch(self) -> None:
        while (left := self._end - time.monotonic()) > 0:
            if self._over.wait(left):
                return
        self.end()

    def end(self) -> None:
        """Writes the result and ends the process: with status 0, or 1 if the result could not be written."""
        status = 1
        try:
            self.write(self._step)
            status = 0
        except Exception:  # such as a full disk: the task is lost
            traceback.print_exc()
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(status)  # the task may hang
