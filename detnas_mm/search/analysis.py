"""Queries on ledgers: filtering rows, merging several ledgers, tables as CSV. Imports no torch."""

from __future__ import annotations

import csv
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from detnas_mm.errors import DetNASError, MissingFileError
from detnas_mm.registry import COSTS
from detnas_mm.search.ledger import Ledger
from detnas_mm.search.ledger_file import BEGINNING, LedgerError, differences, read_ledger
from detnas_mm.search.record import Record
from detnas_mm.search.text import number_text

#: Fields of a row that a condition may use, besides its metrics and costs.
FIELDS = ('index', 'generation', 'id', 'arch', 'origin', 'status', 'reason', 'host', 'attempt')
_TEXTS = ('id', 'arch', 'origin', 'status', 'reason', 'host')
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    '<=': operator.le, '>=': operator.ge, '!=': operator.ne, '<': operator.lt, '>': operator.gt, '=': operator.eq,
}  # fmt: skip


def value(record: Record, name: str) -> Any:
    """Returns a metric, cost, detail or field of a row by name; None if it has none."""
    for values in (record.metrics, record.costs, _numbers(record)):
        if name in values:
            return values[name]
    return getattr(record, name) if name in FIELDS else None


def _numbers(record: Record) -> dict[str, Any]:
    """Returns the numbers among a row's details, such as the number of images it was evaluated on."""
    return {name: value for name, value in record.details.items() if type(value) in (int, float)}


def names(records: Iterable[Record]) -> list[str]:
    """Returns the names of all metrics, costs and numeric details of rows, then of the fields."""
    found = dict.fromkeys(name for r in records for name in (*r.metrics, *r.costs, *_numbers(r)))
    return [*found, *FIELDS]


def cost_units(header: Mapping[str, Any]) -> dict[str, str]:
    """Returns the units of the costs of a search by name, such as ``{'latency': 'ms'}``; none for counts.

    Args:
        header: First line of its ledger.
    """
    found = {}
    for name, spec in ((header.get('budget') or {}).get('costs') or {}).items():
        unit = getattr(COSTS.get(str(spec.get('type'))), 'unit', '')
        if spec.get('relative_to'):
            unit = f'× {spec["relative_to"]}'
        if unit:
            found[name] = unit
    return found


def with_unit(name: str, value: float, units: Mapping[str, str]) -> str:
    """Writes a value with its name and unit in all digits: ``'latency 5.28125 ms'``, ``'macs 5,550,336'``."""
    return ' '.join(filter(None, (name, number_text(value), units.get(name, ''))))


def condition(text: str, known: Sequence[str]) -> Callable[[Record], bool]:
    """Parses a condition on rows, such as ``'macs<=300e6'`` or ``'origin=mutation'``.

    Args:
        text: Name, one of ``<= >= < > = !=``, and a value: a number for metrics, costs and counts; None for rows that
            lack the name; for ids, architectures and other text a string, with ``=`` or ``!=``.
        known: Allowed names.

    Raises:
        ValueError: If the text is not a condition, the name is unknown, or the value does not fit the name.
    """
    found = re.fullmatch(r'\s*(.+?)\s*(<=|>=|!=|<|>|=)\s*(.*?)\s*', text)
    if not found:
        raise DetNASError(
            f'{text!r} is not a condition. Write a name, one of {" ".join(_OPERATORS)} and a value, such as macs<=3e8.'
        )
    name, symbol, wanted = found.groups()
    if name not in known:
        raise DetNASError(f'{name!r} is not a name in the rows. Names: {", ".join(known)}.')
    if not wanted or wanted[0] in '=<>':
        raise DetNASError(
            f'{text!r}: a value must follow {symbol}; got {wanted!r}. Operators are {" ".join(_OPERATORS)}.'
        )
    compare = _OPERATORS[symbol]
    if name in _TEXTS or wanted == 'None':
        if symbol not in ('=', '!='):
            raise DetNASError(f'{text!r}: {name if name in _TEXTS else wanted} can only be compared with = or !=.')
        return lambda record: compare(str(value(record, name)), wanted)
    try:
        number = float(wanted)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise DetNASError(
            f'{text!r}: {name} must be compared with a number, such as {name}{symbol}0.5; got {wanted!r}.'
        )

    def holds(record: Record) -> bool:
        own = value(record, name)
        return compare(own, number) if isinstance(own, (int, float)) else symbol == '!='

    return holds


def _first_bytes(path: Path) -> bytes:
    with path.open('rb') as file:
        return file.readline(60)


def is_ledger(path: Path) -> bool:
    """Returns True if a file exists and begins like a ledger."""
    return path.is_file() and _first_bytes(path).startswith(BEGINNING)


def merge(ledgers: Sequence[str | Path]) -> tuple[dict[str, Any], list[Record]]:
    """Merges ledgers of one search that several machines have written.

    An architecture in several files counts once: the row of the first file that evaluated it completely, else of the
    first.

    Args:
        ledgers: Files, or folders that hold a ``ledger.jsonl``.

    Returns:
        The header, and the rows with new indices, in the order of generations and files.

    Raises:
        LedgerError: If a file is not a ledger, cannot be read, has no first line, or belongs to another search than the
            first.
        FileNotFoundError: If a file does not exist.
    """
    paths = [path / 'ledger.jsonl' if path.is_dir() else path for path in map(Path, ledgers)]
    for path in paths:
        if not path.is_file():
            raise MissingFileError(f'there is no ledger {path}. Give the folder of a search, or its ledger.jsonl.')
        first = _first_bytes(path)
        # A search may be writing its first line at this moment.
        if not (first.startswith(BEGINNING) or BEGINNING.startswith(first)):
            raise LedgerError(
                f"{path} is not a ledger: it begins with {first!r}. Give a search's folder or its ledger.jsonl."
            )
    read = [read_ledger(path) for path in paths]
    header = read[0][0]
    if 'objectives' not in header:
        raise LedgerError(f'{paths[0]} has no first line: its search has not started. Leave it out, or wait.')
    for path, (other, _) in zip(paths[1:], read[1:], strict=True):
        details = differences(header, other)
        if details:
            raise LedgerError(f'{path} is of another search than {paths[0]}, so they cannot be merged: {details}.')
    rows = sorted(
        ((file, record) for file, (_, records) in enumerate(read) for record in records), key=lambda r: r[1].generation
    )
    source: dict[str, tuple[int, bool]] = {}  # file whose rows of an architecture count
    for file, record in rows:
        if record.id not in source or (record.ok and not source[record.id][1]):
            source[record.id] = file, record.ok
    kept = [record for file, record in rows if source[record.id][0] == file]
    return header, [replace(record, index=index) for index, record in enumerate(kept)]


def write_merged(path: str | Path, header: dict[str, Any], records: Iterable[Record]) -> None:
    """Writes rows as a new ledger.

    Raises:
        DetNASError: If the file is there already.
    """
    if Path(path).exists():
        raise DetNASError(f'{path} exists already, and ledgers are never overwritten. Give another file name.')
    settings = {key: part for key, part in header.items() if key not in ('schema', 'environment')}
    with Ledger(path, settings, header.get('environment')) as ledger:
        ledger.extend(records)


def write_csv(file: IO[str], records: Sequence[Record]) -> None:
    """Writes rows as CSV: fields, metrics, costs, seconds by phase."""
    columns = names(records)
    phases = list(dict.fromkeys(phase for record in records for phase in record.time))
    writer = csv.writer(file)
    writer.writerow([*columns, 'parents', *(f'seconds {phase}' for phase in phases)])
    for record in records:
        own = [value(record, name) for name in columns]
        writer.writerow([*own, ' '.join(record.parents), *(record.time.get(phase) for phase in phases)])
