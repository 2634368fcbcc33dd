"""Metrics computed in processes of their own, while the model goes on.

They are plain programs: the processes of the standard library's pool would run a user's script again, each of them.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor

from mmengine.evaluator import BaseMetric

from detnas_mm.checks import whole
from detnas_mm.compat import end_with_parent
from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.detection.metrics import compute

#: What a job gives: the metric's values by name, and the seconds that they took.
Computed = tuple[dict[str, float], float]


class MetricWorkers:
    """Computes a metric on what it kept of candidates; the values are the same in any process.

    Args:
        metric: The metric; with workers it must be possible to pickle it.
        count: Number of worker processes, started with the first jobs; 0 computes at once, in this process.

    Raises:
        ValueError: If the count is negative.
    """

    def __init__(self, metric: BaseMetric, count: int = 0) -> None:
        whole('metric_workers', count)
        self.metric = metric
        self._threads = ThreadPoolExecutor(count) if count else None  # each talks to a process of its own
        self._own = threading.local()

    def submit(self, rows: list, part: bool) -> Future[Computed]:
        """Begins a job; for the arguments see :func:`~detnas_mm.evaluators.detection.metrics.compute`."""
        if self._threads is not None:
            return self._threads.submit(self._ask, rows, part)
        done: Future[Computed] = Future()
        done.set_result(_timed(self.metric, rows, part))
        return done

    def _ask(self, rows: list, part: bool) -> Computed:
        if not hasattr(self._own, 'process'):
            self._own.process = subprocess.Popen(
                [sys.executable, '-c', f'from {__name__} import serve; serve()'],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | dict(PYTHONPATH=os.pathsep.join(sys.path), OMP_NUM_THREADS='1'),
            )
            pickle.dump(self.metric, self._own.process.stdin)
        process = self._own.process
        try:
            pickle.dump((rows, part), process.stdin)
            process.stdin.flush()
            answer = pickle.load(process.stdout)
        except (EOFError, BrokenPipeError) as error:
            raise DetNASError(
                f'A process that computes metrics ended with exit status {process.wait()}. Lower '
                f'evaluator.metric_workers if memory ran out; what it wrote stands above.'
            ) from error
        if isinstance(answer, Exception):
            raise answer
        return answer


def _timed(metric: BaseMetric, rows: list, part: bool) -> Computed:
    start = time.perf_counter()
    values = compute(metric, rows, part)
    return values, time.perf_counter() - start


def serve() -> None:
    """What a worker does: it is handed a metric, then jobs."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    with os.fdopen(os.dup(1), 'wb') as answers:
        os.dup2(2, 1)  # what metrics print must not get between
        with contextlib.suppress(EOFError):  # the parent has no more jobs
            metric = pickle.load(sys.stdin.buffer)
            while True:
                job = pickle.load(sys.stdin.buffer)
                answer: Computed | Exception
                try:
                    answer = _timed(metric, *job)
                except Exception as error:  # it is raised where the job came from, without what led to it
                    answer = error
                    if not isinstance(error, DetNASError):
                        traceback.print_exc()
                pickle.dump(answer, answers)
                answers.flush()
