"""Files that survive crashes and other processes: written whole or not at all, and locked.

Standard library only.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detnas_mm.errors import DetNASError

#: What ``flock`` reports of a lock that another process holds; every other error says that it cannot lock there.
_HELD = (errno.EWOULDBLOCK, errno.EACCES)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives a name for a new file, which takes the place of ``path`` when the block ends without an error.

    Readers find the old content or the new one, whole, whenever the writer is killed.

    Args:
        path: The file; its folder is made if missing. The new file lies beside it and has the same suffix.

    Raises:
        IsADirectoryError: If ``path`` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f'.{path.stem}.{secrets.token_hex(4)}{path.suffix}')
    try:
        yield draft
        with draft.open('rb+') as file:  # content reaches the disk before its name, or a crash leaves an empty file
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file in UTF-8, see :func:`replacing`."""
    with replacing(path) as draft:
        draft.write_text(text, encoding='utf-8')


def write_json(path: str | Path, content: Any, **style: Any) -> None:
    """Writes a JSON file, see :func:`replacing`.

    Args:
        path: The file.
        content: Plain values.
        **style: Arguments of :func:`json.dumps`, such as ``indent=2``.
    """
    write_text(path, json.dumps(content, **style) + '\n')


def lock(path: str | Path, wait: bool = False) -> int:
    """Locks a file or a folder against other processes, for as long as the returned handle is open.

    A lock ends with its process, however that ends. Where the file system cannot lock (some NFS and Lustre mounts),
    a warning names it and the handle locks nothing.

    Args:
        path: A folder, or a file, which is made if missing.
        wait: Whether to wait for another process's lock to end. Defaults to False.

    Returns:
        The handle, for :func:`os.close`.

    Raises:
        BlockingIOError: If another process holds the lock and ``wait`` is False.
        DetNASError: If this system has no ``flock``, as Windows.
    """
    try:
        import fcntl
    except ImportError as error:
        raise DetNASError(
            f'{path} cannot be locked: this Python has no fcntl. Searching and making data sets need Linux or macOS.'
        ) from error
    handle = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            os.close(handle)
            raise BlockingIOError(error.errno, 'another process holds the lock', str(path)) from error
        warnings.warn(
            f'The file system mounted at {_mount_point(path)} cannot lock {path} ({error.strerror}), so nothing keeps '
            f'a second process from writing there: start one at a time, or choose a folder on another file system.',
            stacklevel=2,
        )
    return handle


def _mount_point(path: str | Path) -> Path:
    """Where the file system that holds a path is mounted."""
    whole = Path(path).resolve()
    return next(folder for folder in (whole, *whole.parents) if os.path.ismount(folder))
