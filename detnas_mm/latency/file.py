"""What all files of measured latencies have in common: how they are read, refused and told."""

from __future__ import annotations

import hashlib
import json
import shlex
import warnings
from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detnas_mm.checks import checked_input_size
from detnas_mm.errors import DetNASError, MissingFileError
from detnas_mm.latency.device import describe_device, device_text

SCHEMA = 1
PARTS = ('backbone', 'detector')
#: What every file holds, and of which type; each kind of file holds more.
FIELDS: dict[str, Any] = dict(
    schema=int, part=str, model=str, space=dict, input_size=list, device=dict, clock=str, versions=dict, measured=str,
    pace=dict, constant_ms=(int, float),
)  # fmt: skip


class MeasuredLatency(ABC):
    """A latency that is read from a file, which ``tools/analysis_tools/measure_latency.py`` writes.

    Attributes:
        measurement: What the file holds.
        part: ``'backbone'`` or ``'detector'``.
        input_size: (height, width) in pixels.
    """

    measurement: dict[str, Any]
    part: str
    input_size: tuple[int, int]

    def take(
        self,
        file: str | Path,
        found: dict[str, Any],
        space: Any,
        part: str | None = None,
        input_size: int | Sequence[int] | None = None,
    ) -> None:
        """Takes what a file holds, if it is of what the search wants.

        Args:
            file: Its name, for messages.
            found: What :func:`read_latency_file` returns.
            space: The search space.
            part: The part wanted; None for whatever the file has.
            input_size: (height, width) wanted; None for whatever the file has.

        Raises:
            ValueError: If it was measured of another space, part or input size.

        Warns:
            UserWarning: If it was measured on another device than this machine has.
        """
        self.measurement = found
        self.part = found['part']
        self.input_size = checked_input_size(found['input_size'])
        wanted = {
            'space': (space.spec(), found['space']),
            'part': (part or self.part, self.part),
            'input_size': (self.input_size if input_size is None else checked_input_size(input_size), self.input_size),
        }
        for what, (ours, theirs) in wanted.items():
            if ours != theirs:
                raise DetNASError(
                    f'{file} was measured with {what} {theirs}; this search has {ours}. Measure again into another '
                    f'file, {how_to(file)}, or mend search.costs.'
                )
        device = found['device']
        here = describe_device(device['kind'])
        if here['name'] != device['name']:
            warnings.warn(
                f'{file} was measured on {device_text(device)}; this machine has '
                f'{here["name"] or "no " + device["kind"]}. The latencies hold for the former.',
                stacklevel=3,
            )

    def told(self, *numbers: Any) -> str:
        """The scope: what was measured, where and when, and a digest of the numbers."""
        found = self.measurement
        digest = hashlib.sha256(repr(numbers).encode()).hexdigest()[:8]
        return (
            f'ms an image, {self.part} ({found["model"]}), batch 1, float32, at {self.input_size[0]}x'
            f'{self.input_size[1]}, on {device_text(found["device"])}; measured {found["measured"]}, table {digest}'
        )


def how_to(file: str | Path) -> str:
    """The command that measures."""
    return f'python tools/analysis_tools/measure_latency.py CONFIG [CHECKPOINT] --out {shlex.quote(str(file))}'


def read_latency_file(
    file: str | Path, fields: Mapping[str, Any], problem: Callable[[dict[str, Any]], str | None]
) -> dict[str, Any]:
    """Reads and checks a measured table.

    Args:
        file: The file, JSON.
        fields: What such a file holds besides :data:`FIELDS`, and of which type.
        problem: Tells what is wrong with the rest of a file that has all fields; None if nothing is.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If something is missing or does not fit; says what.
    """
    path = Path(file)
    if not path.is_file():
        raise MissingFileError(f'there is no latency table {file}. Measure it: {how_to(file)}')
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:  # no JSON, no text, numbers or nesting beyond what Python reads
        raise DetNASError(
            f'{file} is no latency table, since it is no JSON ({error}). Measure: {how_to(file)}'
        ) from None
    wrong = _problem(found, FIELDS | dict(fields)) or problem(found)
    if wrong:
        raise DetNASError(
            f'{file} is no latency table of schema {SCHEMA} of this kind: {wrong}. Measure again: {how_to(file)}'
        )
    return found


def _problem(found: Any, fields: Mapping[str, Any]) -> str | None:
    """What is wrong with what files of all kinds hold."""
    if not isinstance(found, dict):
        return f'it holds {type(found).__name__}, not an object'
    missing = [name for name in fields if name not in found]
    if missing:
        return f'it lacks {", ".join(missing)}'
    for name, kind in fields.items():
        if not isinstance(found[name], kind):
            return f'{name} is {found[name]!r}'
    if found['schema'] != SCHEMA:
        return f'its schema is {found["schema"]}'
    if found['part'] not in PARTS:
        return f'part is {found["part"]!r}, not one of {PARTS}'
    if found['device'].get('kind') not in ('cpu', 'cuda') or not found['device'].get('name'):
        return f'device is {found["device"]!r}'
    return None
