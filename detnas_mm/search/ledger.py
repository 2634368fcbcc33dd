"""The state of a search: a file with one JSON line for every evaluated candidate.

Where thousands are evaluated a second, a line is a snapshot of the population instead, and the rows are those of the
last one.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detnas_mm.files import can_lock, lock, replacing, sync_folder
from detnas_mm.search.ledger_file import SCHEMA, LedgerError, differences, read_lines, to_line
from detnas_mm.search.record import Record, Snapshot


def refuse_if_in_use(path: str | Path) -> None:
    """Looks whether a search writes a ledger, without touching it: before anything long is begun.

    Raises:
        LedgerError: If one does; names it.
        DetNASError: If this system cannot lock files.
    """
    can_lock(path)
    if _lock_of(Path(path)).exists():
        os.close(_locked(Path(path)))


def _lock_of(path: Path) -> Path:
    """Where a ledger's lock is: beside the file itself, by whatever link it is reached."""
    return path.resolve().with_suffix('.lock')


def _locked(path: Path) -> int:
    """A handle that keeps other searches from a ledger as long as it is open."""
    file = _lock_of(path)
    try:
        return lock(file)
    except BlockingIOError as error:
        holder = file.read_text(errors='replace').strip() or 'another process'
        raise LedgerError(
            f'{path} is in use by {holder}. Wait for it, stop it, or choose another --work-dir.'
        ) from error


class Ledger:
    """Append-only rows on disk, and in memory.

    Every row is flushed to the disk before :meth:`append` returns. A search that starts on an existing file goes on
    from its rows.

    Args:
        path: The file, made if missing; None keeps the rows in memory alone (ranks that do not write).
        header: What makes rows comparable (weights, space, evaluator, seed, …). A file with another header is refused.
        environment: What may change between starts (versions, threads); kept in the first line, never compared.
        records: Rows to begin with, if ``path`` is None.
        snapshots: Snapshots to begin with, if ``path`` is None.

    Attributes:
        records: All rows; where there are snapshots, the population of the last one.
        snapshots: All snapshots.

    Raises:
        LedgerError: If the file is damaged, in use by another search, or belongs to another one.
    """

    def __init__(
        self,
        path: str | Path | None,
        header: Mapping[str, Any],
        environment: Mapping[str, Any] | None = None,
        records: Sequence[Record] = (),
        snapshots: Sequence[Snapshot] = (),
    ) -> None:
        self.path = None if path is None else Path(path)
        self.header = json.loads(to_line(dict(schema=SCHEMA, **header)))
        self.environment = dict(environment or {})
        self.records: list[Record] = list(records)
        self.snapshots: list[Snapshot] = list(snapshots)
        self._file: int | None = None
        self._lock: int | None = None
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.path)
            os.ftruncate(self._lock, 0)
            os.write(self._lock, f'process {os.getpid()} on {socket.gethostname()}\n'.encode())
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                self._open()
            except BaseException:
                self.close()
                raise
        attempts = [snapshot.attempt for snapshot in self.snapshots] + [record.attempt for record in self.records]
        self.attempt = 1 + max(attempts, default=0)

    def _open(self) -> None:
        assert self.path is not None and self._file is not None
        found, self.records, self.snapshots, good = read_lines(self.path)
        if good < os.fstat(self._file).st_size:
            os.ftruncate(self._file, good)
        if not found:
            self._write(self.header | dict(environment=self.environment))
            sync_folder(self.path.parent)
            return
        self.environment_at_start = found.pop('environment', {})
        if found != self.header and not (self.records or self.snapshots):
            os.ftruncate(self._file, 0)  # an earlier start got no further than to this line
            self._write(self.header | dict(environment=self.environment))
            return
        if found != self.header:
            details = differences(found, self.header)
            raise LedgerError(
                f'{self.path} belongs to another search; its rows cannot be compared with the ones asked for. '
                f'Differing: {details}. Choose another --work-dir, or give the settings and the checkpoint of '
                f'that search to go on with it.'
            )
        if self.environment_at_start != self.environment:
            warnings.warn(
                f'{self.path} was begun with {self.environment_at_start}, now {self.environment}: scores may differ '
                f'in their last digits.',
                stacklevel=4,
            )

    def _write(self, *rows: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        data = b''.join(map(to_line, rows))
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError as error:  # the disk is full, or gone
            raise LedgerError(
                f'{self.path} cannot be written: {error.strerror}. Nothing before is lost: make room, and start the '
                f'same command again.'
            ) from error

    def append(self, record: Record) -> None:
        """Writes a row to the disk; it is safe when this returns."""
        self.extend([record])

    def extend(self, records: Iterable[Record]) -> None:
        """Writes rows to the disk; all are safe when this returns.

        Raises:
            ValueError: If their indices do not go on from those that are there: the file could not be read again.
        """
        new = list(records)
        for index, record in enumerate(new, len(self.records)):
            if record.index != index:
                raise ValueError(f'The next row of {self.path} has index {index}; got {record.index} ({record.arch}).')
        self._write(*(record.to_json() for record in new))
        self.records += new

    def cut(self, index: int) -> Path | None:
        """Takes rows back, those from an index on; the file as it was stays beside the new one.

        Args:
            index: Of the first row that goes.

        Returns:
            Where the file as it was lies; None for rows in memory.
        """
        kept = self.records[:index]
        self.records = kept
        if self.path is None or self._file is None:
            return None
        names = (self.path.with_name(f'{self.path.stem}_before_{n}{self.path.suffix}') for n in itertools.count(1))
        copy = next(name for name in names if not name.exists())
        content = self.path.read_bytes()
        with replacing(copy) as draft:
            draft.write_bytes(content)
        os.ftruncate(self._file, sum(map(len, content.splitlines(keepends=True)[: index + 1])))
        os.fsync(self._file)
        return copy

    def append_snapshot(self, snapshot: Snapshot) -> None:
        """Writes a snapshot to the disk; it is safe when this returns."""
        self._write(snapshot.to_json())
        self.snapshots.append(snapshot)
        self.records = list(snapshot.population)

    def close(self) -> None:
        """Releases the file for other processes."""
        for handle in (self._file, self._lock):
            if handle is not None:
                os.close(handle)
        self._file = self._lock = None

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
