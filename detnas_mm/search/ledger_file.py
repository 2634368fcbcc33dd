"""Reads ledgers, and compares their first lines."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detnas_mm.errors import DetNASError
from detnas_mm.search.record import Record, Snapshot

SCHEMA = 3


class LedgerError(DetNASError):
    """A ledger that cannot be used: damaged, in use, or of another search."""


#: First bytes of every ledger.
BEGINNING = b'{"schema":'


def _refuse(constant: str) -> None:
    raise ValueError(f'{constant} is not a finite number')


_DECODER = json.JSONDecoder(parse_constant=_refuse)  # made once, for a hundred thousand lines


def to_line(row: Mapping[str, Any]) -> bytes:
    """Returns a row as a line of the file."""
    return json.dumps(row, ensure_ascii=False, separators=(',', ':'), allow_nan=False).encode() + b'\n'


def _leaves(value: Any, key: str = '') -> dict[str, str]:
    """Flattens nested dicts to text values by dotted key."""
    if not isinstance(value, Mapping) or not value:
        return {key: json.dumps(value, ensure_ascii=False)}
    return {k: v for name, part in value.items() for k, v in _leaves(part, f'{key}.{name}' if key else name).items()}


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Lists the settings that differ between two headers, with both values; empty if the searches are the same."""
    first, second = ({k: v for k, v in _leaves(h).items() if not k.startswith('environment')} for h in (there, now))
    return '; '.join(
        f'{key}: there {first.get(key, "nothing")}, now {second.get(key, "nothing")}'
        for key in sorted(first.keys() | second.keys())
        if first.get(key) != second.get(key)
    )


def read_ledger(path: str | Path) -> tuple[dict[str, Any], list[Record]]:
    """Reads a ledger without changing it, also while a search writes it.

    Returns:
        The header (empty if the file is empty) and the rows; with snapshots, those of the last one.

    Raises:
        LedgerError: If a line other than the last is damaged; a damaged last line is dropped with a warning.
        FileNotFoundError: If the file does not exist.
    """
    header, records, _, _ = read_lines(Path(path))
    return header, records


def read_snapshots(path: str | Path) -> list[Snapshot]:
    """Reads all snapshots of a ledger; none if it has one line for each candidate. Raises as :func:`read_ledger`."""
    return read_lines(Path(path))[2]


def _objectives(path: Path, header: Mapping[str, Any]) -> list[str]:
    """Returns the names of the objectives in a ledger's header."""
    objectives = header.get('objectives', [])
    if not isinstance(objectives, list) or not all(
        isinstance(o, dict) and isinstance(o.get('name'), str) for o in objectives
    ):
        raise LedgerError(
            f'The first line of {path} is damaged: its objectives are {objectives!r}. Restore the file from a copy.'
        )
    return [objective['name'] for objective in objectives]


def read_lines(path: Path) -> tuple[dict[str, Any], list[Record], list[Snapshot], int]:
    """Returns the header, the rows, the snapshots, and the number of bytes in complete lines."""
    lines = path.read_bytes().splitlines(keepends=True)
    header: dict[str, Any] = {}
    records: list[Record] = []
    snapshots: list[Snapshot] = []
    objectives: list[str] = []
    good = 0
    for number, line in enumerate(lines, 1):
        try:
            if number == 1 and line[: len(BEGINNING)] != BEGINNING[: len(line)]:
                raise LedgerError(f'{path} is not a ledger; it begins with {line[:80]!r}.')
            if not line.endswith(b'\n'):
                raise ValueError('the line is incomplete')
            row = _DECODER.decode(line.decode())
            if not isinstance(row, dict):
                raise ValueError('it is not a JSON object')
            if number == 1:
                if row['schema'] != SCHEMA:
                    raise LedgerError(
                        f'{path} is a ledger of schema {row["schema"]!r}; this version reads {SCHEMA}. Finish the '
                        f'search with the version that started it, or choose another --work-dir.'
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
                    raise ValueError(f'it has no {missing[0]}, an objective of the search')
                records.append(record)
        except LedgerError:
            raise
        except (ValueError, RecursionError) as error:
            if number < len(lines):
                raise LedgerError(
                    f'Line {number} of {path} is damaged ({error}). Searches only append lines, so something else '
                    f'changed the file. Restore it from a copy, or cut it before line {number}: the search then '
                    f'evaluates the removed candidates again.'
                ) from error
            warnings.warn(f'The last line of {path} is incomplete ({error}) and is dropped.', stacklevel=3)
            break
        good += len(line)
    return header, records, snapshots, good
