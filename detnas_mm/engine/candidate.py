"""Trains one candidate of a search and writes its result: ``python -m detnas_mm.engine.candidate FOLDER --key KEY``.

The folder holds the candidate's ``config.py``. The command may be killed at any moment and started again: it resumes
exactly from its last checkpoint, or begins again from the start if the config cannot be resumed exactly. It writes
``result.json`` last, and the search reads nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from detnas_mm.engine.candidate_training import Training
from detnas_mm.engine.provenance import environment
from detnas_mm.evaluators.training.folder import drop_training, standing
from detnas_mm.workers import Watchdog, failure_of, hold, read_result, write_result


def peak_memory() -> dict[str, float]:
    """Returns the peak memory of this process in MiB, on the CPU and on the GPU."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == 'darwin' else 2**10)
    cuda = {'GPU': torch.cuda.max_memory_allocated() / 2**20} if torch.cuda.is_initialized() else {}
    return {'CPU': peak} | cuda


class Result:
    """Writes the result of a training.

    Args:
        training: The training that runs.
        key: Key of the task.
        limit: Seconds that the training may take, those of earlier starts included; None for no limit.
    """

    def __init__(self, training: Training, key: str, limit: float | None) -> None:
        self.training, self.key, self.limit = training, key, limit

    def write(self, status: str, **more: Any) -> None:
        """Writes the result, as the last step of this process."""
        rungs = (standing(self.training.folder, self.training.work) or {}).get('rungs', {})
        about = dict(peak_memory_mb=peak_memory(), made_with=environment(), host=socket.gethostname())
        write_result(self.training.folder, self.key, dict(status=status, rungs=rungs) | more | about)

    def limited(self) -> contextlib.AbstractContextManager[Any]:
        """Returns a context manager that ends the process with a failed result at the time limit."""
        if self.limit is None:
            return contextlib.nullcontext()
        return Watchdog(max(self.limit - self.training.before, 0.1), self.time_over)

    def time_over(self, step: str = '') -> None:
        """Writes that the training has reached its time limit."""
        self.write(
            'failed',
            reason=f'not finished within the limit of {self.limit:g} s',
            seconds=dict(training=self.training.seconds),
            time_limit=self.limit,
            load=round(os.getloadavg()[0], 1),
            cores=os.cpu_count(),
        )


def main(arguments: list[str] | None = None) -> None:
    """Trains one candidate and writes its result, as a command: ``python -m detnas_mm.engine.candidate``."""
    parser = argparse.ArgumentParser(prog='python -m detnas_mm.engine.candidate', description=__doc__)
    parser.add_argument('folder', type=Path, help='holds config.py; result.json is written there')
    parser.add_argument('--key', required=True, help='key of the result; an existing result with this key is kept')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads; the last digits of results depend on them')
    parser.add_argument('--until', type=int, help='epoch or iteration at which it stops for now; default: its end')
    parser.add_argument('--time-limit', type=float, help='seconds that the training may take, all starts together')
    parser.add_argument('--inherit', type=Path, help='file of weights for tensors of equal name and shape')
    parser.add_argument('--trial', type=int, help='train for this many iterations only, to measure their time')
    args = parser.parse_args(arguments)
    startup = time.process_time()  # of the imports; processor time, which other programs do not change
    with hold(args.folder):
        if read_result(args.folder, args.key) is not None:
            return
        torch.set_num_threads(args.threads)
        training = Training(args.folder, args.key, args.until, args.inherit, args.trial)
        result = Result(training, args.key, args.time_limit)
        found: dict[str, Any]
        try:
            with result.limited():
                found = training.run() if args.trial is None else training.try_out()
        except Exception as error:
            reason = failure_of(error)
            if reason is None:  # the task is lost, and tried again
                raise
            traceback.print_exc()
            reason = reason.replace(f'{args.folder}/', '')  # the search may be moved
            result.write('failed', reason=reason, seconds=dict(startup=startup, training=training.seconds))
            drop_training(args.folder)
            return
        found['seconds'] = dict(startup=startup) | found.get('seconds', {})
        result.write('ok', **found)
        if training.until == training.schedule.total:
            drop_training(args.folder)


if __name__ == '__main__':
    main()
