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

from detnas_mm.errors import DetNASError
from detnas_mm.files import can_lock, lock, replacing, sync_folder
from detnas_mm.search.record import Record, Snapshot

SCHEMA = 3


class LedgerError(DetNASError):
    """A ledger that cannot be used: damaged, in use, or of another search."""


#: What every ledger begins with.
BEGINNING = b'{"schema":'


def _refuse(constant: str) -> None:
    raise ValueError(f'{constant} is no number that a ledger may hold')


_DECODER = json.JSONDecoder(parse_constant=_refuse)  # made once: a hundred thousand lines are read by it


def _dump(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, separators=(',', ':'), allow_nan=False).encode() + b'\n'


def _leaves(value: Any, key: str = '') -> dict[str, str]:
    """All values inside nested dicts, as text, by dotted key."""
    if not isinstance(value, Mapping) or not value:
        return {key: json.dumps(value, ensure_ascii=False)}
    return {k: v for name, part in value.items() for k, v in _leaves(part, f'{key}.{name}' if key else name).items()}


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Which settings differ between two headers, with both values; empty if they belong to one search."""
    first, second = ({k: v for k, v in _leaves(h).items() if not k.startswith('environment')} for h in (there, now))
    return '; '.join(
        f'{key}: there {first.get(key, "nothing")}, now {second.get(key, "nothing")}'
        for key in sorted(first.keys() | second.keys())
        if first.get(key) != second.get(key)
    )


def read_ledger(path: str | Path) -> tuple[dict[str, Any], list[Record]]:
    """Reads a ledger without touching it, also while a search writes it.

    Returns:
        The header (empty if the file is) and the rows; of snapshots, those of the last one.

    Raises:
        LedgerError: If a line other than the last is damaged; the last one is dropped with a warning.
        FileNotFoundError: If there is no such file.
    """
    header, records, _, _ = _read(Path(path))
    return header, records


def read_snapshots(path: str | Path) -> list[Snapshot]:
    """All snapshots of a ledger; none if it has a line for every candidate. Raises what :func:`read_ledger` does."""
    return _read(Path(path))[2]


def _objectives(path: Path, header: Mapping[str, Any]) -> list[str]:
    """Names of what a ledger's search is for."""
    objectives = header.get('objectives', [])
    if not isinstance(objectives, list) or not all(
        isinstance(o, dict) and isinstance(o.get('name'), str) for o in objectives
    ):
        raise LedgerError(f'The first line of {path} is damaged: its objectives are {objectives!r}.')
    return [objective['name'] for objective in objectives]


def _read(path: Path) -> tuple[dict[str, Any], list[Record], list[Snapshot], int]:
    """Header, rows, snapshots, and the number of bytes that hold whole lines."""
    lines = path.read_bytes().splitlines(keepends=True)
    header: dict[str, Any] = {}
    records: list[Record] = []
    snapshots: list[Snapshot] = []
    objectives: list[str] = []
    good = 0
    for number, line in enumerate(lines, 1):
        try:
            if number == 1 and line[: len(BEGINNING)] != BEGINNING[: len(line)]:
                raise LedgerError(f'{path} is no ledger; it begins with {line[:80]!r}.')
            if not line.endswith(b'\n'):
                raise ValueError('the line is cut short')
            row = _DECODER.decode(line.decode())
            if not isinstance(row, dict):
                raise ValueError('it is no JSON object')
            if number == 1:
                if row['schema'] != SCHEMA:
                    raise LedgerError(
                        f'{path} is a ledger of schema {row["schema"]!r}; this version reads {SCHEMA}. Finish it '
                        f'with the version that began it, or search in another folder (--work-dir).'
                    )
                header = row
                objectives = _objectives(path, header)
            elif 'population' in row:
                snapshot = Snapshot.from_json(row)
                if snapshot.generation != len(snapshots):
                    raise ValueError(f'its generation is {snapshot.generation}, expected {len(snapshots)}')
                snapshots.append(snapshot)
                records = list(snapshot.population)
            else:
                record = Record.from_json(row)
                if record.index != len(records):
                    raise ValueError(f'its index is {record.index}, expected {len(records)}')
                missing = [name for name in objectives if name not in record.metrics and name not in record.costs]
                if record.ok and missing:
                    raise ValueError(f'it has no {missing[0]}, which the search is for')
                records.append(record)
        except LedgerError:
            raise
        except (ValueError, RecursionError) as error:
            if number < len(lines):
                raise LedgerError(
                    f'Line {number} of {path} is damaged ({error}). Lines are only ever appended, so something else '
                    f'changed the file. Restore it from a copy, or cut it before line {number}: the search then '
                    f'evaluates again what is gone.'
                ) from error
            warnings.warn(f'The last line of {path} is incomplete ({error}) and is dropped.', stacklevel=3)
            break
        good += len(line)
    return header, records, snapshots, good


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
        self.header = json.loads(_dump(dict(schema=SCHEMA, **header)))
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
        found, self.records, self.snapshots, good = _read(self.path)
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
        data = b''.join(map(_dump, rows))
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
