"""Timing a net and its parts, on a CPU or a GPU. Imports torch.

torch.utils.benchmark times statements as a whole; here the parts of one and the same run are timed, so that they add up
to it, and caches are as they are inside a net.
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
    """Marks moments in a run, on a CPU.

    Args:
        threads: How many threads torch uses. With one, what counts is the processor time of that thread, which other
            programs on the machine cannot stretch; on a machine at rest it is the time that passes. With more it is
            the time that passes.

    Attributes:
        name: Which clock that is.
    """

    def __init__(self, threads: int = 1) -> None:
        self.name = 'processor time of the thread' if threads == 1 else 'time that passed'
        self._clock = time.thread_time if threads == 1 else time.perf_counter

    def mark(self) -> Any:
        """This moment."""
        return self._clock()

    def seconds(self, marks: Sequence[Any]) -> list[float]:
        """The seconds between moments, one fewer than there are."""
        return np.diff(marks).tolist()


class CudaStopwatch(Stopwatch):
    """Marks moments in the stream of a GPU, by events; waits for the last before the next run begins."""

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
    """What measures on ``'cpu'`` or ``'cuda'``, with the threads that torch has now."""
    return CudaStopwatch() if device == 'cuda' else Stopwatch(torch.get_num_threads())


class TimedRun:
    """Runs a net on every input in turn; a call returns the mean seconds of its parts.

    Args:
        run: Runs the net on one input.
        inputs: What to run it on.
        watch: See :func:`stopwatch`.
        parts: Modules that run one after another: the call returns the seconds before the first of them, in each, and
            after the last. Without any, the seconds of the whole.
        before: What is done before each input; takes no time.
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
        """Seconds, shape (parts + 2,) or (1,)."""
        seconds = []
        for one in self.inputs:
            self.before()
            self.marks = []
            self._mark()
            self.run(one)
            self._mark()
            seconds.append(self.watch.seconds(self.marks))
        return np.mean(seconds, axis=0)
