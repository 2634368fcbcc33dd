"""A latency that was measured: its file, how it is read and refused, and what all such costs have in common."""

from __future__ import annotations

import hashlib
import json
import shlex
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from detnas_mm.checks import checked_input_size
from detnas_mm.cli import typed
from detnas_mm.cost.base import CostModel
from detnas_mm.errors import DetNASError, MissingFileError
from detnas_mm.latency.device import describe_device, device_text
from detnas_mm.spaces import SearchSpace

SCHEMA = 1
PARTS = ('backbone', 'detector')
#: What every file holds, and of which type; each kind of file holds more.
FIELDS: dict[str, Any] = dict(
    schema=int, part=str, model=str, space=dict, input_size=list, device=dict, clock=str, versions=dict, measured=str,
    pace=dict, constant_ms=(int, float),
)  # fmt: skip


class MeasuredLatency(CostModel):
    """A latency that is read from a file, which ``tools/analysis_tools/measure_latency.py`` writes.

    The file is opened on first use of the numbers: a search section can be parsed before its table is measured.

    Args:
        space: The search space.
        file: The measured table, JSON.
        part: ``'backbone'`` or ``'detector'``, if the file must be of that one; None for whatever it has.
        input_size: (height, width) in pixels, if the file must be of that one; None for whatever it has.
        relative_to: Name of a net that was measured with the table: latencies are then multiples of its own. Defaults
            to None: milliseconds.

    Raises:
        ValueError: If an argument does not fit.
    """

    name = 'latency'
    lazy = True
    #: What files of this kind hold besides :data:`FIELDS`.
    fields: Mapping[str, Any] = {}

    def __init__(
        self,
        space: SearchSpace,
        file: str | Path,
        part: str | None = None,
        input_size: int | Sequence[int] | None = None,
        relative_to: str | None = None,
    ) -> None:
        if part is not None and part not in PARTS:
            raise DetNASError(f"part must be 'backbone' or 'detector'; got {part!r}.")
        self.space = space
        self.file = file
        self.relative_to = relative_to
        self.unit = 'ms' if relative_to is None else f'× {relative_to}'
        #: What the file must be of, by its fields; None for whatever it has.
        self.asked = dict(part=part, input_size=None if input_size is None else checked_input_size(input_size))

    @abstractmethod
    def problem(self, found: dict[str, Any]) -> str | None:
        """What is wrong with the numbers of a file that has all fields; None if nothing is."""

    @abstractmethod
    def numbers(self) -> list[Any]:
        """The numbers of the file that decide latencies, JSON-ready."""

    @property
    def missing(self) -> bool:
        """Whether there is no such file yet."""
        return not Path(self.file).is_file()

    @cached_property
    def measurement(self) -> dict[str, Any]:
        """What the file holds.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no such table, or was measured of another space, part or input size, or without the net
                that latencies are multiples of.

        Warns:
            UserWarning: If it was measured on another device than this machine has.
        """
        found = self._read()
        wanted = {
            'space': (self.space.spec(), found['space']),
            'part': (self.asked['part'], found['part']),
            'input_size': (self.asked['input_size'], checked_input_size(found['input_size'])),
        }
        for what, (ours, theirs) in wanted.items():
            if ours is not None and ours != theirs:
                raise DetNASError(
                    f'{self.file} was measured with {what} {theirs}; this search has {ours}. Measure again into '
                    f'another file, {how_to(self.file)}, or change search.costs.'
                )
        references = found.get('references_ms', {})
        if self.relative_to is not None and self.relative_to not in list(references):
            raise DetNASError(
                f'{self.file} holds no latency of {self.relative_to!r}; it holds those of {sorted(references)}.'
            )
        device = found['device']
        here = describe_device(device['kind'])
        if here['name'] != device['name']:
            warnings.warn(
                f'{self.file} was measured on {device_text(device)}; this machine has '
                f'{here["name"] or "no " + device["kind"]}. The latencies hold for the former.',
                stacklevel=3,
            )
        return found

    @property
    def device(self) -> dict[str, Any]:
        """What it was measured on, see :func:`~detnas_mm.latency.device.describe_device`."""
        return self.measurement['device']

    @property
    def part(self) -> str:
        """``'backbone'`` or ``'detector'``."""
        return self.measurement['part']

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return checked_input_size(self.measurement['input_size'])

    @property
    def unit_ms(self) -> float:
        """The milliseconds of the net that latencies are multiples of; 1 without one."""
        return 1.0 if self.relative_to is None else self.measurement['references_ms'][self.relative_to]

    @property
    def scope(self) -> str:  # type: ignore[override]
        """What was measured, where and when, and a digest of the numbers."""
        found = self.measurement
        unit = '' if self.relative_to is None else f'multiples of the {self.unit_ms:g} ms of {self.relative_to}; '
        return (
            f'{unit}ms an image, {self.part} ({found["model"]}), batch 1, float32, at {self.input_size[0]}x'
            f'{self.input_size[1]}, on {device_text(found["device"])}; measured {found["measured"]}, table '
            f'{self._digest()[:8]}'
        )

    def spec(self) -> dict[str, Any]:
        """See :meth:`CostModel.spec`: a digest of the numbers, which decide all."""
        unit = {} if self.relative_to is None else dict(relative_to=self.relative_to, unit_ms=self.unit_ms)
        return dict(type=type(self).__name__, table=self._digest()) | unit

    def _digest(self) -> str:
        return hashlib.sha256(repr(self.numbers()).encode()).hexdigest()[:16]

    def _read(self) -> dict[str, Any]:
        """What the file holds, if it is a table of this kind."""
        if self.missing:
            raise MissingFileError(f'there is no latency table {self.file}. Measure it: {how_to(self.file)}')
        try:
            found = json.loads(Path(self.file).read_text())
        except (ValueError, RecursionError) as error:  # no JSON, no text, numbers or nesting beyond what Python reads
            raise DetNASError(
                f'{self.file} is no latency table, since it is no JSON ({error}). Measure: {how_to(self.file)}'
            ) from None
        wrong = _problem(found, FIELDS | dict(self.fields)) or self.problem(found)
        if wrong:
            raise DetNASError(
                f'{self.file} is no latency table of schema {SCHEMA} of this kind: {wrong}. Measure again: '
                f'{how_to(self.file)}'
            )
        return found


def how_to(file: str | Path) -> str:
    """The command that measures."""
    return f'{typed("analysis_tools/measure_latency.py", "CONFIG")} [CHECKPOINT] --out {shlex.quote(str(file))}'


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
