"""Common functions of the benchmarks: timing in turn, tables, JSON files."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from detnas_mm import files


def interleave(rivals: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Times functions in turn, so that load and throttling of the machine affect all of them equally.

    Every function runs once without timing first; each round starts with another function.

    Args:
        rivals: Functions by name.
        rounds: Number of timed calls of each.

    Returns:
        Seconds of every call by name, in the order of the rounds.
    """
    names = list(rivals)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for run in rivals.values():
        run()
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            start = time.perf_counter()
            rivals[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(values: list[float]) -> dict[str, float]:
    """Returns median, minimum and maximum."""
    return dict(median=statistics.median(values), min=min(values), max=max(values))


def machine() -> dict[str, Any]:
    """Describes the machine."""
    cpu = next(
        (line.partition(':')[2].strip() for line in _lines('/proc/cpuinfo') if line.startswith('model name')),
        platform.processor(),
    )
    found = dict(cpu=cpu, cores=os.cpu_count(), python=platform.python_version(), numpy=np.__version__)
    try:
        import torch
    except ImportError:
        return found
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return dict(found, torch=torch.__version__, threads=torch.get_num_threads(), gpu=device)


def table(rows: list[dict[str, Any]]) -> str:
    """Formats rows of equal keys as a text table, with numbers right-aligned."""
    heads = list(rows[0])
    cells = [heads, *([_text(row[head]) for head in heads] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(heads))]
    right = [not isinstance(rows[0][head], str) for head in heads]

    def line(row: list[str]) -> str:
        aligned = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
        return '  '.join(aligned).rstrip()

    return '\n'.join([line(heads), '  '.join('-' * w for w in widths), *map(line, cells[1:])])


def add_output(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds the option for the JSON file."""
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks', default), help='[%(default)s]')


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    """Writes a result with a description of the machine."""
    files.write_json(path, dict(result, machine=machine()), indent=2)
    print(f'\nwritten to {path}')


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f'{value:,.0f}' if abs(value) >= 1000 else f'{value:.3g}'
    return f'{value:,}' if isinstance(value, int) else str(value)
