"""Latency of the nets of a block-wise space, from a table that was measured on the device at hand."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detnas_mm.cost.base import AdditiveTable
from detnas_mm.cost.device import describe_device, device_text
from detnas_mm.cost.macs import checked_input_size
from detnas_mm.registry import COSTS
from detnas_mm.spaces import DetNASSpace

SCHEMA = 1
PARTS = ('backbone', 'detector')
#: What every file holds, and of which type.
FIELDS: dict[str, Any] = dict(
    schema=int, part=str, model=str, weights=(str, type(None)), images=str, space=dict, input_size=list, device=dict,
    clock=str, versions=dict, measured=str, pace=dict, constant_ms=(int, float), table_ms=list, iqr_ms=list,
)  # fmt: skip


@COSTS.register_module()
class LatencyTable(AdditiveTable):
    """Milliseconds for one image, as the sum of what was measured of the parts: one number a choice and position.

    The file is written by ``tools/analysis_tools/measure_latency.py``, which also tells how well the sum agrees with
    whole nets. The constant is what all nets pay: for the part ``'backbone'`` the stem, for ``'detector'`` also
    preprocessing, neck, head and post-processing.

    Args:
        space: A :class:`DetNASSpace` or what makes one.
        file: The measured table, JSON.
        part: ``'backbone'`` or ``'detector'``, if the file must be of that one.
        input_size: (height, width) in pixels, if the file must be of that one.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such table, or was measured of another space, part or input size.

    Warns:
        UserWarning: If it was measured on another device than this machine has.
    """

    def __init__(
        self,
        space: DetNASSpace | str | Mapping[str, Any],
        file: str | Path,
        part: str | None = None,
        input_size: int | Sequence[int] | None = None,
    ) -> None:
        if part is not None and part not in PARTS:
            raise ValueError(f"part must be 'backbone' or 'detector'; got {part!r}.")
        space = DetNASSpace(space)
        self.measurement = found = read_latency_file(file)
        self.space = space
        self.part: str = found['part']
        self.input_size = checked_input_size(found['input_size'])
        wanted = {
            'space': (space.spec(), found['space']),
            'part': (part or self.part, self.part),
            'input_size': (self.input_size if input_size is None else checked_input_size(input_size), self.input_size),
        }
        for what, (ours, theirs) in wanted.items():
            if ours != theirs:
                raise ValueError(
                    f'{file} was measured with {what} {theirs}; this search has {ours}. Measure again into another '
                    f'file, {_how_to(file)}, or mend search.costs.'
                )
        table = np.array(found['table_ms'], dtype=float)
        if table.shape != (space.num_blocks, space.num_choices):
            raise ValueError(
                f'{file}: table_ms has the shape {table.shape}; this space has {space.num_blocks} blocks of '
                f'{space.num_choices} choices.'
            )
        device = found['device']
        here = describe_device(device['kind'])
        if here['name'] != device['name']:
            warnings.warn(
                f'{file} was measured on {device_text(device)}; this machine has '
                f'{here["name"] or "no " + device["kind"]}. The latencies hold for the former.',
                stacklevel=2,
            )
        digest = hashlib.sha256(repr((found['table_ms'], found['constant_ms'])).encode()).hexdigest()[:8]
        scope = (
            f'ms an image, {self.part} ({found["model"]}), batch 1, float32, at {self.input_size[0]}x'
            f'{self.input_size[1]}, on {device_text(device)}; measured {found["measured"]}, table {digest}'
        )
        super().__init__('latency', scope, table, float(found['constant_ms']))


def _how_to(file: str | Path) -> str:
    return f'python tools/analysis_tools/measure_latency.py CONFIG CHECKPOINT --out {file}'


def read_latency_file(file: str | Path) -> dict[str, Any]:
    """Reads and checks a measured table.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If something is missing or does not fit; says what.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f'there is no latency table {file}. Measure it: {_how_to(file)}')
    try:
        found = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f'{file} is no latency table, since it is no JSON ({error}). Measure: {_how_to(file)}'
        ) from None
    problem = _problem(found)
    if problem:
        raise ValueError(f'{file} is no latency table of schema {SCHEMA}: {problem}. Measure again: {_how_to(file)}')
    return found


def _problem(found: Any) -> str | None:
    """What is wrong with the content of a file."""
    if not isinstance(found, dict):
        return f'it holds {type(found).__name__}, not an object'
    missing = [name for name in FIELDS if name not in found]
    if missing:
        return f'it lacks {", ".join(missing)}'
    for name, kind in FIELDS.items():
        if not isinstance(found[name], kind):
            return f'{name} is {found[name]!r}'
    if found['schema'] != SCHEMA:
        return f'its schema is {found["schema"]}'
    if found['part'] not in PARTS:
        return f'part is {found["part"]!r}, not one of {PARTS}'
    if found['device'].get('kind') not in ('cpu', 'cuda') or not found['device'].get('name'):
        return f'device is {found["device"]!r}'
    try:
        numbers = [np.array(found[name], dtype=float) for name in ('constant_ms', 'table_ms')]
    except (TypeError, ValueError):
        return 'table_ms holds something else than rows of numbers, equally long'
    if numbers[1].ndim != 2 or not all(np.isfinite(n).all() and (n > 0).all() for n in numbers):
        return 'latencies must be positive numbers, a row for every block'
    return None
