"""Metrics computed in processes of their own, while the model goes on."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import time
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

from mmengine.evaluator import BaseMetric

from detnas_mm.evaluators.metrics import compute

#: What a job gives: the metric's values by name, and the seconds that they took.
Computed = tuple[dict[str, float], float]

_metric: BaseMetric


def end_with_parent() -> None:
    """Lets this process end with the one that started it, even if that one is killed; on Linux alone."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class MetricWorkers:
    """Computes a metric on what it kept of candidates; the values are the same in any process.

    Args:
        metric: The metric; with workers it must be possible to pickle it.
        count: Number of worker processes, started with the first job; 0 computes at once, in this process.

    Raises:
        ValueError: If the count is negative.
    """

    def __init__(self, metric: BaseMetric, count: int = 0) -> None:
        if count < 0:
            raise ValueError(f'metric_workers is a number of processes, 0 or more; got {count}.')
        self.metric = metric
        self.count = count
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, rows: list, part: bool) -> Future[Computed]:
        """Begins a job; for the arguments see :func:`~detnas_mm.evaluators.metrics.compute`."""
        if not self.count:
            done: Future[Computed] = Future()
            done.set_result(_timed(self.metric, rows, part))
            return done
        if self._pool is None:
            # Not forked: a process that has used CUDA or threads cannot be continued in a copy.
            self._pool = ProcessPoolExecutor(self.count, get_context('spawn'), _begin, (self.metric,))
        return self._pool.submit(_work, rows, part)


def _timed(metric: BaseMetric, rows: list, part: bool) -> Computed:
    start = time.perf_counter()
    values = compute(metric, rows, part)
    return values, time.perf_counter() - start


def _begin(metric: BaseMetric) -> None:
    global _metric
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    _metric = metric


def _work(rows: list, part: bool) -> Computed:
    import torch

    torch.set_num_threads(1)
    return _timed(_metric, rows, part)
