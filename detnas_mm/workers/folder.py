"""The folder of a task: who works in it, and the result that is written when the work is done."""

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
    """Another process works in the folder."""


def write_result(folder: str | Path, key: str, result: Mapping[str, Any]) -> None:
    """Writes the result of a task, whole or not at all; the command's last act.

    Args:
        folder: The task's folder.
        key: The task's key.
        result: Plain values, read back as they are: floats to the last bit.

    Raises:
        ValueError: If a value is no JSON: numpy's numbers, NaN, infinity.
    """
    write_json(Path(folder) / RESULT, {**result, 'key': key}, indent=2, allow_nan=False)
    sync_folder(Path(folder))


def read_result(folder: str | Path, key: str) -> dict[str, Any] | None:
    """The result of a task.

    Args:
        folder: The task's folder.
        key: The task's key.

    Returns:
        What :func:`write_result` was given, and ``key``; None if there is no result, or one of another key.
    """
    path = Path(folder) / RESULT
    try:
        result = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return None
    except ValueError:  # somebody else's file: ours are whole
        return None
    return result if isinstance(result, dict) and result.get('key') == key else None


@contextmanager
def hold(folder: str | Path, wait: bool = True) -> Iterator[None]:
    """Keeps other processes out of a task's folder for the length of a block, or of this process.

    A command works in such a block, looks in it for a result that stands already, and writes its own there. So no
    two work in one folder, whoever has started the second one, and however the first one ends.

    Args:
        folder: The task's folder.
        wait: Whether to wait until another process leaves the folder. Defaults to True.

    Raises:
        FolderInUse: If another process works there and ``wait`` is False.
    """
    path = Path(folder) / LOCK
    try:
        handle = lock(path)
    except BlockingIOError as error:
        holder = path.read_text(encoding='utf-8').strip() or 'another process'
        if not wait:
            raise FolderInUse(f'{folder} is in use by {holder}; wait for its end, or end it.') from error
        print(f'waiting for {holder}, which works in {folder}', flush=True)
        handle = lock(path, wait=True)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f'process {os.getpid()} on {socket.gethostname()}\n'.encode())
        yield
    finally:
        os.close(handle)
