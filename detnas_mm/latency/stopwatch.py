"""Times a net and its parts, on a CPU or a GPU. Imports torch.

torch.utils.benchmark times whole statements. Here the parts of the same run are timed, so their times add up to that of
the run, and caches have the state that they have inside a net.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn


class Stopwatch:
    """Takes time marks in a run, on a CPU.

    Args:
        threads: Number of threads that torch uses. With one, marks are processor time of the thread, which hardly
            depends on other programs and equals elapsed time on an idle machine. With more, they are elapsed time.

    Attributes:
        name: Name of the clock.
    """

    def __init__(self, threads: int = 1) -> None:
        self.name = 'processor time of the thread' if threads == 1 else 'time that passed'
        self._clock = time.thread_time if threads == 1 else time.perf_counter

    def mark(self) -> Any:
        """Returns a time mark."""
        return self._clock()

    def seconds(self, marks: Sequence[Any]) -> list[float]:
        """Returns the seconds between consecutive marks."""
        return np.diff(marks).tolist()


class CudaStopwatch(Stopwatch):
    """Takes time marks in the stream of a GPU by events; waits for the last one before the next run."""

    def __init__(self) -> None:
        self.name = 'CUDA events'

    def mark(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, marks: Sequence[Any]) -> list[float]:
        marks[-1].synchronize()
        return [first.elapsed_time(second) / 1000 for first, second in itertools.pairwise(marks)]


def stopwatch(device: str) -> Stopwatch:
    """Returns the stopwatch for ``'cpu'`` or ``'cuda'``, with the current number of torch threads."""
    return CudaStopwatch() if device == 'cuda' else Stopwatch(torch.get_num_threads())


class TimedRun:
    """Runs a net on all inputs; a call returns the mean seconds of its parts.

    Args:
        run: Runs the net on one input.
        inputs: The inputs.
        watch: See :func:`stopwatch`.
        parts: Modules that run one after another: a call returns the seconds before the first, in each, and after the
            last. Without parts it returns the seconds of the whole run.
        before: Called before each input; its time is not counted.
    """

    def __init__(
        self,
        run: Callable[[Any], Any],
        inputs: Sequence[Any],
        watch: Stopwatch,
        parts: Sequence[nn.Module] = (),
        before: Callable[[], Any] = lambda: None,
    ) -> None:
        self.run = run
        self.before = before
        self.inputs = inputs
        self.watch = watch
        self.parts = parts
        self.marks: list[Any] = []
        for first in parts[:1]:
            first.register_forward_pre_hook(self._mark)
        for part in parts:
            part.register_forward_hook(self._mark)

    def _mark(self, *_: Any) -> None:
        self.marks.append(self.watch.mark())

    @torch.no_grad()
    def __call__(self) -> np.ndarray:
        """Returns seconds, shape (parts + 2,) or (1,)."""
        seconds = []
        for one in self.inputs:
            self.before()
            self.marks = []
            self._mark()
            self.run(one)
            self._mark()
            seconds.append(self.watch.seconds(self.marks))
        return np.mean(seconds, axis=0)
