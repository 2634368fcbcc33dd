"""Files that survive crashes and other processes: written whole or not at all, and locked.

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


def drafts(path: str | Path) -> list[Path]:
    """New files that processes which were killed in :func:`replacing` have left beside a file.

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
    """Puts a folder's entries on the disk: a flushed file is lost all the same where its name is not."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def can_lock(path: str | Path) -> ModuleType:
    """The module that locks files.

    Raises:
        DetNASError: If this system has none, as Windows; names the path.
    """
    try:
        import fcntl
    except ImportError as error:
        raise DetNASError(
            f'{path} cannot be locked: this Python has no fcntl. Searching and making data sets need Linux or macOS.'
        ) from error
    return fcntl


def lock(path: str | Path, wait: bool = False) -> int:
    """Locks a file or a folder against other processes, for as long as the returned handle is open.

    A lock ends with its process, however that ends: processes that are forked meanwhile, as a data loader's workers
    are, do not keep it. Where the file system cannot lock (some NFS and Lustre mounts),
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
    """Closes the handles of locks in a forked process, but those that the parent has closed and used again."""
    for handle, identity in _locks.items():
        with contextlib.suppress(OSError):  # closed
            if _identity(handle) == identity:
                os.close(handle)
    _locks.clear()


#: Which file every handle of a lock is of.
_locks: dict[int, tuple[int, int]] = {}
if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_leave_locks)


def _mount_point(path: str | Path) -> Path:
    """Where the file system that holds a path is mounted."""
    whole = Path(path).resolve()
    return next(folder for folder in (whole, *whole.parents) if os.path.ismount(folder))
