"""Base of costs that are read from a file of measured latencies; reads and checks the file."""

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
#: Fields of every file and their types; each kind of file has more.
FIELDS: dict[str, Any] = dict(
    schema=int, part=str, model=str, space=dict, input_size=list, device=dict, clock=str, versions=dict, measured=str,
    pace=dict, constant_ms=(int, float),
)  # fmt: skip


class MeasuredLatency(CostModel):
    """Latency that is read from a file of ``tools/analysis_tools/measure_latency.py``.

    The file is opened when a number is first needed, so a search section can be parsed before its table is measured.

    Args:
        space: The search space.
        file: The measured table, JSON.
        part: ``'backbone'`` or ``'detector'``: a file of the other part is an error. Defaults to None: either.
        input_size: (height, width) in pixels: a file of another size is an error. Defaults to None: any.
        relative_to: Name of a net that was measured with the table: latencies are multiples of its latency. Defaults to
            None: latencies are in milliseconds.

    Raises:
        ValueError: If an argument does not fit.
    """

    name = 'latency'
    unit = 'ms'
    lazy = True
    #: Fields of this kind of file besides :data:`FIELDS`, and their types.
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
        #: Required values of fields of the file; None for any.
        self.asked = dict(part=part, input_size=None if input_size is None else checked_input_size(input_size))

    @abstractmethod
    def problem(self, found: dict[str, Any]) -> str | None:
        """Returns what is wrong with the numbers of a file that has all fields; None if they are valid."""

    @abstractmethod
    def numbers(self) -> list[Any]:
        """Returns the numbers of the file that latencies depend on, JSON-ready."""

    @property
    def missing(self) -> bool:
        """True if the file does not exist yet."""
        return not Path(self.file).is_file()

    @cached_property
    def measurement(self) -> dict[str, Any]:
        """Content of the file.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no such table, was measured for another space, part or input size, or has no latency of
                ``relative_to``.

        Warns:
            UserWarning: If it was measured on another device than that of this machine.
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
                    f'another file: {how_to(self.file)}; or change search.costs.'
                )
        references = found.get('references_ms', {})
        if self.relative_to is not None and self.relative_to not in list(references):
            raise DetNASError(
                f'{self.file} has no latency of {self.relative_to!r}, only of {sorted(references)}: change relative_to.'
            )
        device = found['device']
        here = describe_device(device['kind'])
        if here['name'] != device['name']:
            warnings.warn(
                f'{self.file} was measured on {device_text(device)}; this machine has '
                f'{here["name"] or "no " + device["kind"]}. The latencies are those of the former.',
                stacklevel=3,
            )
        return found

    @property
    def device(self) -> dict[str, Any]:
        """Device of the measurement, see :func:`~detnas_mm.latency.device.describe_device`."""
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
        """Milliseconds of the net ``relative_to``; 1 without one."""
        return 1.0 if self.relative_to is None else self.measurement['references_ms'][self.relative_to]

    @property
    def scope(self) -> str:  # type: ignore[override]
        """Line about the measurement: part, device, date and a digest of the numbers."""
        found = self.measurement
        unit = '' if self.relative_to is None else f'multiples of the {self.unit_ms:g} ms of {self.relative_to}; '
        return (
            f'{unit}ms an image, {self.part} ({found["model"]}), batch 1, float32, at {self.input_size[0]}x'
            f'{self.input_size[1]}, on {device_text(found["device"])}; measured {found["measured"]}, table '
            f'{self._digest()[:8]}'
        )

    def spec(self) -> dict[str, Any]:
        """See :meth:`CostModel.spec`: a digest of the numbers."""
        unit = {} if self.relative_to is None else dict(relative_to=self.relative_to, unit_ms=self.unit_ms)
        return dict(type=type(self).__name__, table=self._digest()) | unit

    def _digest(self) -> str:
        return hashlib.sha256(repr(self.numbers()).encode()).hexdigest()[:16]

    def _read(self) -> dict[str, Any]:
        """Reads the file and checks that it is a table of this kind."""
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
    """Returns the command that measures."""
    return f'{typed("analysis_tools/measure_latency.py", "CONFIG")} [CHECKPOINT] --out {shlex.quote(str(file))}'


def _problem(found: Any, fields: Mapping[str, Any]) -> str | None:
    """Returns what is wrong with the fields of a file; None if they are valid."""
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
