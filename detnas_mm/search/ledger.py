"""The ledger holds the state of a search: a file with one JSON line for every evaluated candidate.

Searches that evaluate thousands of candidates a second write a snapshot of the population as a line instead; the rows
are then those of the last snapshot.
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
    """Raises if a running search uses a ledger; does not change the file.

    Raises:
        LedgerError: If one does. The message names the process.
        DetNASError: If this system cannot lock files.
    """
    can_lock(path)
    if _lock_of(Path(path)).exists():
        os.close(_locked(Path(path)))


def _lock_of(path: Path) -> Path:
    """Returns the path of a ledger's lock: beside the file itself, links resolved."""
    return path.resolve().with_suffix('.lock')


def _locked(path: Path) -> int:
    """Locks a ledger against other searches as long as the returned handle is open."""
    file = _lock_of(path)
    try:
        return lock(file)
    except BlockingIOError as error:
        holder = file.read_text(errors='replace').strip() or 'another process'
        raise LedgerError(
            f'{path} is in use by {holder}. Wait for it, stop it, or choose another --work-dir.'
        ) from error


class Ledger:
    """Append-only rows, on disk and in memory.

    Every row is flushed to the disk before :meth:`append` returns. A search that starts on an existing file resumes
    from its rows.

    Args:
        path: The file, made if missing; None keeps rows in memory only, as on ranks other than 0.
        header: All that makes rows comparable (weights, space, evaluator, seed, …). Another header in the file is an
            error.
        environment: What may change between starts (versions, threads); written to the first line, never compared.
        records: Initial rows, if ``path`` is None.
        snapshots: Initial snapshots, if ``path`` is None.

    Attributes:
        records: All rows; with snapshots, the population of the last one.
        snapshots: All snapshots.

    Raises:
        LedgerError: If the file is damaged, in use, or belongs to another search.
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
            os.ftruncate(self._file, 0)  # an earlier run was stopped while it wrote this line
            self._write(self.header | dict(environment=self.environment))
            return
        if found != self.header:
            details = differences(found, self.header)
            raise LedgerError(
                f'{self.path} belongs to another search, so its rows cannot be compared with new ones. '
                f'Differences: {details}. Choose another --work-dir, or use the settings and the checkpoint of '
                f'that search to resume it.'
            )
        if self.environment_at_start != self.environment:
            warnings.warn(
                f'{self.path} was started with {self.environment_at_start}, now {self.environment}: scores may differ '
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
                f'{self.path} cannot be written: {error.strerror}. Earlier rows are safe: free some space and start '
                f'the same command again.'
            ) from error

    def append(self, record: Record) -> None:
        """Writes a row to the disk; it is safe when this returns."""
        self.extend([record])

    def extend(self, records: Iterable[Record]) -> None:
        """Writes rows to the disk; all are safe when this returns.

        Raises:
            ValueError: If their indices do not continue the existing ones: the file could not be read again.
        """
        new = list(records)
        for index, record in enumerate(new, len(self.records)):
            if record.index != index:
                raise ValueError(
                    f'The next row of {self.path} must have index {index}; got {record.index} ({record.arch}).'
                )
        self._write(*(record.to_json() for record in new))
        self.records += new

    def cut(self, index: int) -> Path | None:
        """Removes all rows from an index on; keeps a copy of the file as it was.

        Args:
            index: Index of the first row to remove.

        Returns:
            Path of the copy; None for rows in memory.
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
