"""Files that survive crashes and concurrent processes: written atomically, and locked.

Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from detnas_mm.errors import DetNASError

#: Error numbers of ``flock`` if another process holds the lock; others mean that locking is not supported.
_HELD = (errno.EWOULDBLOCK, errno.EACCES)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a path for a new file, which replaces ``path`` when the block ends without an error.

    Readers see the complete old or the complete new content, even if the writer is killed.

    Args:
        path: The file; its folder is made if missing. The new file is in the same folder and has the same suffix.

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
        with draft.open('rb+') as file:  # content before the rename, or a crash leaves an empty file
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def drafts(path: str | Path) -> list[Path]:
    """Returns incomplete new files of a file, left by processes that were killed in :func:`replacing`.

    Args:
        path: The file; its name may be a pattern, such as ``'epoch_*.pth'``.
    """
    path = Path(path)
    return sorted(path.parent.glob(f'.{path.stem}.{"[0-9a-f]" * 8}{path.suffix}'))


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


def sync_folder(folder: Path) -> None:
    """Flushes a folder's entries to disk: without its entry a flushed file is lost, too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def can_lock(path: str | Path) -> ModuleType:
    """Returns the module ``fcntl``, which locks files.

    Raises:
        DetNASError: If the system lacks it, such as Windows.
    """
    try:
        import fcntl
    except ImportError as error:
        raise DetNASError(
            f'{path} cannot be locked: this Python has no fcntl. Use Linux or macOS for searches and for making data '
            f'sets.'
        ) from error
    return fcntl


def lock(path: str | Path, wait: bool = False) -> int:
    """Locks a file or a folder against other processes, for as long as the returned handle is open.

    A lock ends with its process: forked processes, such as workers of a data loader, do not keep it. If the file system
    cannot lock (some NFS and Lustre mounts), a warning names it and the handle locks nothing.

    Args:
        path: A folder, or a file, which is made if missing.
        wait: Whether to wait until another process releases its lock. Defaults to False.

    Returns:
        The handle, for :func:`os.close`.

    Raises:
        BlockingIOError: If another process holds the lock and ``wait`` is False.
        DetNASError: If the system has no ``flock``, such as Windows.
    """
    fcntl: Any = can_lock(path)
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
    _locks[handle] = _identity(handle)
    return handle


def _identity(handle: int) -> tuple[int, int]:
    state = os.fstat(handle)
    return state.st_dev, state.st_ino


def _leave_locks() -> None:
    """Closes the handles of locks in a forked process, except those that the parent has closed and reused."""
    for handle, identity in _locks.items():
        with contextlib.suppress(OSError):  # closed
            if _identity(handle) == identity:
                os.close(handle)
    _locks.clear()


#: File (device and inode) of each open handle of a lock.
_locks: dict[int, tuple[int, int]] = {}
if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_leave_locks)


def _mount_point(path: str | Path) -> Path:
    """Returns the folder at which the file system of a path is mounted."""
    whole = Path(path).resolve()
    return next(folder for folder in (whole, *whole.parents) if os.path.ismount(folder))
