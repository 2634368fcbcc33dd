"""Distinguishes failures of a task from failures of the machine that runs it."""

from __future__ import annotations

from collections.abc import Iterator

from detnas_mm.errors import DetNASError, said

#: Reason of a task that needs more memory than its device has.
OUT_OF_MEMORY = 'out of memory'
#: Parts of messages that come from the machine: the task is lost, and tried again.
_MACHINE = ('CUDA error', 'CUDA driver', 'cuDNN', 'CUDNN', 'NCCL', 'DataLoader worker', 'No space left')
_MEMORY = (OUT_OF_MEMORY, "can't allocate memory", 'not enough memory')


def failure_of(error: Exception) -> str | None:
    """Returns why a task failed, in the same words in every run; None if its machine failed."""
    errors = list(_chain(error))
    texts = [str(one) for one in errors]
    if any(type(one).__name__ in ('OutOfMemoryError', 'MemoryError') for one in errors) or any(
        part in text for part in _MEMORY for text in texts
    ):
        return OUT_OF_MEMORY
    if any(isinstance(one, (OSError, ImportError)) for one in errors) or any(
        part in text for part in _MACHINE for text in texts
    ):
        return None
    return str(error) if isinstance(error, DetNASError) else said(error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
