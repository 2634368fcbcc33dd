"""Loads images in worker processes, which send them by value."""

from __future__ import annotations

import contextlib
import gc
import io
import multiprocessing
import pickle
import signal
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch._utils import ExceptionWrapper

from detnas_mm.compat import end_with_parent
from detnas_mm.errors import DetNASError

_MORE_MEMORY = 'give the job more memory, or lower num_workers of the dataloader'
#: Errors that Python raises for objects that cannot be pickled.
_NOT_PICKLABLE = (pickle.PicklingError, TypeError, AttributeError)


def load_ahead(dataset: Any, batches: Sequence[Sequence[int]], num_workers: int) -> Iterator[list[Any]]:
    """Yields the dataset's items of each batch, loaded by worker processes.

    torch's loaders send tensors through shared memory: each holds an open file as long as it exists, and with a full
    /dev/shm (64 MB in a container) they block forever. They also raise the death of a worker at any place of the
    program. Here each worker has its own pipe: received data are in this process's own memory, and the pipe of a dead
    worker raises at once, without a time limit. A worker loads one batch ahead.

    Args:
        dataset: A dataset with picklable items.
        batches: Indices of each batch.
        num_workers: Number of processes, 1 or more.

    Raises:
        DetNASError: If a worker cannot be started, ends before its work is done, or cannot send what it loaded.
    """
    context: Any = multiprocessing.get_context()
    workers, pipes = [], []
    try:
        for number in range(min(num_workers, len(batches))):
            receiving, sending = context.Pipe(duplex=False)
            pipes.append(receiving)
            args = (dataset, batches[number::num_workers], sending, receiving, number)
            worker = context.Process(target=_work, args=args, daemon=True)
            try:
                worker.start()
            except OSError as error:
                raise DetNASError(
                    f'Process {number + 1} of {num_workers} that load images cannot be started: {error}. Lower '
                    f'num_workers of the dataloader; 0 starts none.'
                ) from error
            finally:
                sending.close()  # only the worker holds it, so the pipe ends with it
            workers.append(worker)
        for number in range(len(batches)):
            yield _received(pipes[number % num_workers], workers[number % num_workers], num_workers)
    finally:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.join()
            worker.close()
        for pipe in pipes:
            pipe.close()


def _received(pipe: Connection, worker: Any, num_workers: int) -> list[Any]:
    """Receives the next batch of a worker."""
    try:
        items = pickle.loads(pipe.recv_bytes())
    except (EOFError, OSError) as error:
        worker.join(5)  # it has ended, or closed the pipe
        code = worker.exitcode
        how = f'by {signal.Signals(-code).name}' if code and code < 0 else f'with exit code {code}'
        raise DetNASError(
            f'One of the processes that load images ({num_workers}) ended {how} before its work was done. The system '
            f'kills processes like this if memory runs out: {_MORE_MEMORY}.'
        ) from error
    if isinstance(items, ExceptionWrapper):
        try:
            items.reraise()
        except (MemoryError, RuntimeError) as error:  # unchanged it would count as a failed candidate
            if isinstance(error, MemoryError) or 'allocate memory' in str(error):
                text = f'One of the processes that load images ({num_workers}) ran out of memory: {_MORE_MEMORY}.'
                raise DetNASError(text) from error
            raise
    if isinstance(items, _NotSent):
        raise DetNASError(
            f'Processes that load images cannot send a batch: {items}. Make the pipeline return picklable objects, or '
            f'set num_workers=0 in the dataloader.'
        )
    return items


class _NotSent(str):
    """Reason why a batch cannot be sent."""


class _ByValue(pickle.Pickler):
    """Pickles tensors as arrays, which is faster than torch's way of one file for each tensor."""

    def reducer_override(self, one: Any) -> Any:
        if type(one) is torch.Tensor:
            with contextlib.suppress(TypeError, RuntimeError):  # no array can hold it: torch pickles it by value
                if one.is_contiguous():
                    return torch.from_numpy, (one.numpy(),)
        return NotImplemented


def _packed(items: Any) -> bytes:
    file = io.BytesIO()
    _ByValue(file, pickle.HIGHEST_PROTOCOL).dump(items)
    return file.getvalue()


def _work(dataset: Any, batches: Sequence[Sequence[int]], pipe: Connection, receiving: Connection, number: int) -> None:
    """Runs a worker: loads its batches and sends each, or the reason why it cannot."""
    gc.freeze()  # else garbage collection would copy all pages shared with the job
    end_with_parent()  # else it would hold the ledger's lock for seconds after the job
    receiving.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the job, which ends its workers
    torch.set_num_threads(1)
    for batch in batches:
        try:
            items: Any = [dataset[index] for index in batch]
        except Exception:
            pipe.send_bytes(pickle.dumps(ExceptionWrapper(where=f'in process {number} that loads images')))
            return
        try:
            data = _packed(items)
        except _NOT_PICKLABLE as error:
            data = pickle.dumps(_NotSent(f'{type(error).__name__}: {" ".join(str(error).split())}'))
        with contextlib.suppress(BrokenPipeError):  # the receiver has ended
            pipe.send_bytes(data)
