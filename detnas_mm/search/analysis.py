"""Questions to ledgers: which rows, which are best, all of several folders together. Imports no torch."""

from __future__ import annotations

import csv
import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from detnas_mm.errors import DetNASError, MissingFileError
from detnas_mm.search.ledger import Ledger
from detnas_mm.search.ledger_file import BEGINNING, LedgerError, differences, read_ledger
from detnas_mm.search.record import Record

#: Fields of a row that a condition may name, beside its metrics and costs.
FIELDS = ('index', 'generation', 'id', 'arch', 'origin', 'status', 'reason', 'host', 'attempt')
_TEXTS = ('id', 'arch', 'origin', 'status', 'reason', 'host')
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    '<=': operator.le, '>=': operator.ge, '!=': operator.ne, '<': operator.lt, '>': operator.gt, '=': operator.eq,
}  # fmt: skip


def value(record: Record, name: str) -> Any:
    """A metric, cost, detail or field of a row by name; None if it has none."""
    for values in (record.metrics, record.costs, _numbers(record)):
        if name in values:
            return values[name]
    return getattr(record, name) if name in FIELDS else None


def _numbers(record: Record) -> dict[str, Any]:
    """Those of a row's details that are numbers, such as how many images it was judged on."""
    return {name: value for name, value in record.details.items() if type(value) in (int, float)}


def names(records: Iterable[Record]) -> list[str]:
    """All metrics, costs and numbers among the details that rows have, then the fields."""
    found = dict.fromkeys(name for r in records for name in (*r.metrics, *r.costs, *_numbers(r)))
    return [*found, *FIELDS]


def condition(text: str, known: Sequence[str]) -> Callable[[Record], bool]:
    """A test of rows, from text such as ``'macs<=300e6'`` or ``'origin=mutation'``.

    Args:
        text: Name, one of ``<= >= < > = !=``, and a value: a number for metrics, costs and counts, or None for rows
            that have none; for ids, architectures and other words a text, with ``=`` or ``!=``.
        known: The names that may stand there.

    Raises:
        ValueError: If the text is no condition, names something unknown, or the value does not fit the name.
    """
    found = re.fullmatch(r'\s*(.+?)\s*(<=|>=|!=|<|>|=)\s*(.*?)\s*', text)
    if not found:
        raise DetNASError(
            f'{text!r} is no condition. Write a name, one of {" ".join(_OPERATORS)} and a value: macs<=3e8.'
        )
    name, symbol, wanted = found.groups()
    if name not in known:
        raise DetNASError(f'{name!r} is nothing that a row has. There are: {", ".join(known)}.')
    if not wanted or wanted[0] in '=<>':
        raise DetNASError(
            f'{text!r}: a value is wanted after {symbol}; got {wanted!r}. Operators are {" ".join(_OPERATORS)}.'
        )
    compare = _OPERATORS[symbol]
    if name in _TEXTS or wanted == 'None':
        if symbol not in ('=', '!='):
            raise DetNASError(f'{text!r}: {name if name in _TEXTS else wanted} is compared by = or != alone.')
        return lambda record: compare(str(value(record, name)), wanted)
    try:
        number = float(wanted)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise DetNASError(f'{text!r}: {symbol} wants a number for {name}; got {wanted!r}.')

    def holds(record: Record) -> bool:
        own = value(record, name)
        return compare(own, number) if isinstance(own, (int, float)) else symbol == '!='

    return holds


def _first_bytes(path: Path) -> bytes:
    with path.open('rb') as file:
        return file.readline(60)


def is_ledger(path: Path) -> bool:
    """Whether there is a file that begins as ledgers do."""
    return path.is_file() and _first_bytes(path).startswith(BEGINNING)


def merge(ledgers: Sequence[str | Path]) -> tuple[dict[str, Any], list[Record]]:
    """All rows of ledgers of one search, as many machines may have written them.

    What two files say of the same candidate counts once: by the first that evaluated it to the end, else by the first.

    Args:
        ledgers: Files, or folders that hold a ``ledger.jsonl``.

    Returns:
        The header, and the rows with new indices, in the order of generations and files.

    Raises:
        LedgerError: If one is no ledger, cannot be read or has no first line, or belongs to another search than the
            first.
        FileNotFoundError: If there is no such file.
    """
    paths = [path / 'ledger.jsonl' if path.is_dir() else path for path in map(Path, ledgers)]
    for path in paths:
        if not path.is_file():
            raise MissingFileError(f'there is no ledger {path}. Name the folder of a search, or its ledger.jsonl.')
        first = _first_bytes(path)
        # A search may just be writing its first line.
        if not (first.startswith(BEGINNING) or BEGINNING.startswith(first)):
            raise LedgerError(f"{path} is no ledger: it begins with {first!r}. Name a search's folder or ledger.jsonl.")
    read = [read_ledger(path) for path in paths]
    header = read[0][0]
    if 'objectives' not in header:
        raise LedgerError(f'{paths[0]} is the ledger of a search that has not begun: it has no first line.')
    for path, (other, _) in zip(paths[1:], read[1:], strict=True):
        details = differences(header, other)
        if details:
            raise LedgerError(f'{path} is of another search than {paths[0]}: {details}.')
    rows = sorted(
        ((file, record) for file, (_, records) in enumerate(read) for record in records), key=lambda r: r[1].generation
    )
    source: dict[str, tuple[int, bool]] = {}  # which file's rows of an architecture count
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
        raise DetNASError(f'{path} exists already; ledgers are never overwritten. Name another file.')
    settings = {key: part for key, part in header.items() if key not in ('schema', 'environment')}
    with Ledger(path, settings, header.get('environment')) as ledger:
        ledger.extend(records)


def write_csv(file: IO[str], records: Sequence[Record]) -> None:
    """Writes rows as a table: fields, metrics, costs, seconds by phase."""
    columns = names(records)
    phases = list(dict.fromkeys(phase for record in records for phase in record.time))
    writer = csv.writer(file)
    writer.writerow([*columns, 'parents', *(f'seconds {phase}' for phase in phases)])
    for record in records:
        own = [value(record, name) for name in columns]
        writer.writerow([*own, ' '.join(record.parents), *(record.time.get(phase) for phase in phases)])
