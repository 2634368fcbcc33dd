"""Ends a process that hangs, or whose time is over."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

#: Seconds after its time in which the process can write a result; then it is ended from outside Python.
_GRACE = 120.0


class Watchdog:
    """Ends this process if it makes no step for some time, while the block runs that this is the context of.

    A thread writes the result and ends the process. If Python itself hangs, so that no thread runs, ``faulthandler``
    prints all tracebacks and ends the process 2 minutes later; it is lost then.

    Args:
        seconds: Time from one step to the next, and from the start to the first step.
        write: Writes the result of the task; is given the name of the step that took too long.
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
        """Begins a step, which has all of the time again."""
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
