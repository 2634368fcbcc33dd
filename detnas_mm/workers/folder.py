"""Folder of a task: its lock, and its result."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detnas_mm.errors import DetNASError
from detnas_mm.files import lock, sync_folder, write_json

RESULT = 'result.json'
LOCK = 'lock'


class FolderInUse(DetNASError):
    """Another process has locked the folder."""


def write_result(folder: str | Path, key: str, result: Mapping[str, Any]) -> None:
    """Writes the result of a task, as the last step of its command; the file is there whole or not at all.

    Args:
        folder: The task's folder.
        key: The task's key.
        result: JSON values; floats are read back to the last bit.

    Raises:
        ValueError: If JSON cannot hold a value: numpy's numbers, NaN, infinity.
    """
    write_json(Path(folder) / RESULT, {**result, 'key': key}, indent=2, allow_nan=False)
    sync_folder(Path(folder))


def read_result(folder: str | Path, key: str) -> dict[str, Any] | None:
    """Reads the result of a task.

    Args:
        folder: The task's folder.
        key: The task's key.

    Returns:
        The values given to :func:`write_result`, and ``key``; None if there is no result, or one of another key.
    """
    path = Path(folder) / RESULT
    try:
        result = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return None
    except ValueError:  # written by something else: our files are whole
        return None
    return result if isinstance(result, dict) and result.get('key') == key else None


@contextmanager
def hold(folder: str | Path, wait: bool = True) -> Iterator[None]:
    """Locks a task's folder during a block; the lock ends with this process at the latest.

    A command runs in such a block: it looks for a result, and writes its own. So no two commands write into one folder,
    even if a command outlives the process that started it and is started again.

    Args:
        folder: The task's folder.
        wait: Whether to wait until another process releases the folder. Defaults to True.

    Raises:
        FolderInUse: If another process has locked the folder and ``wait`` is False.
    """
    path = Path(folder) / LOCK
    try:
        handle = lock(path)
    except BlockingIOError as error:
        holder = path.read_text(encoding='utf-8').strip() or 'another process'
        if not wait:
            raise FolderInUse(f'{folder} is in use by {holder}; wait until it has ended, or end it.') from error
        print(f'waiting for {holder}, which uses {folder}', flush=True)
        handle = lock(path, wait=True)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f'process {os.getpid()} on {socket.gethostname()}\n'.encode())
        yield
    finally:
        os.close(handle)
