"""Durable file of latencies of whole nets, by machine, comparable between sessions."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detnas_mm import __version__
from detnas_mm.compat import FAMILIES, find_family, installed_version
from detnas_mm.errors import DetNASError
from detnas_mm.files import lock, write_json
from detnas_mm.latency.device import device_text
from detnas_mm.latency.whole import WholeNet
from detnas_mm.search import counted

SCHEMA = 1
KIND = 'latencies of whole nets'
#: Description of the measurement; latencies of another protocol in the file are not used.
PROTOCOL = (
    'whole detector, untrained, post-processing fully loaded (score threshold 0, nms_pre and max_per_img as '
    'configured), batch 1, float32'
)
#: Fields of each machine in the file, and their types.
_PARTS = dict(device=dict, versions=dict, protocol=str, clock=str, references=dict, nets=dict, sessions=list)


def versions() -> dict[str, str | None]:
    """Returns the versions of the packages that latency depends on; imports none of them."""
    family = FAMILIES[find_family()]
    stack = {module: installed_version(family[module][0]) for module in ('mmcv', 'mmdet')}
    return dict(torch=installed_version('torch'), **stack, detnas_mm=__version__)


class NetFile:
    """Latencies of whole nets by machine: a device with its threads, versions of packages, and the protocol.

    Latencies of other machines are kept and not used. Those of one machine are measured in sessions, and a machine may
    be slower in one session than in another (heat, power, other programs). So the fastest and the slowest net of the
    first session, the reference nets, are measured again in every later session. Its latencies are multiplied by the
    mean ratio of their first time to their present time, so all latencies are milliseconds of the first session. The
    difference between both ratios is kept with the session, and is part of the spread of its nets.

    Args:
        path: The file, JSON; it need not exist.
        machine: ``device``, ``versions`` and ``protocol``.

    Raises:
        DetNASError: If the file is not a file of latencies.
    """

    def __init__(self, path: Path, machine: Mapping[str, Any]) -> None:
        self.path = path
        self.machine = dict(machine)
        self.content = self._read()
        found = [one for one in self.content['machines'] if self._is_here(one)]
        self.here: dict[str, Any] = found[0] if found else {}

    @property
    def nets(self) -> dict[str, dict[str, Any]]:
        """Measured nets of this machine, by key: ``arch``, ``input_size``, ``ms``, ``iqr_ms`` and more."""
        return self.here.get('nets', {})

    @property
    def references(self) -> dict[str, dict[str, Any]]:
        """Reference nets, by key; empty before the first session."""
        return self.here.get('references', {})

    @property
    def failed(self) -> dict[str, dict[str, Any]]:
        """Nets that do not run on this machine, by key: ``arch``, ``input_size`` and ``reason``."""
        return self.here.get('failed', {})

    def knows(self, key: str) -> bool:
        """Returns whether a net was measured, or failed, on this machine."""
        return key in self.nets or key in self.failed

    def unused(self) -> str:
        """Returns a line about latencies of other machines, if there are none of this one; empty otherwise."""
        others = [one for one in self.content['machines'] if not self._is_here(one)]
        if self.here or not others:
            return ''
        what = '; '.join(f'{counted(len(one["nets"]), "net")} of {_machine_text(one)}' for one in others)
        return f'{self.path} has latencies of {what}. They are not used: this is {_machine_text(self.machine)}.'

    def add(self, nets: Sequence[WholeNet], result: Mapping[str, Any], **about: Any) -> dict[str, Any]:
        """Adds the latencies of a session, and writes the file.

        Args:
            nets: Measured nets; without the reference nets of earlier sessions.
            result: Result of :func:`~detnas_mm.latency.session.measure_session`.
            **about: Further entries of the session.

        Returns:
            The session: ``ratio``, ``unlike``, ``references`` and the given entries.
        """
        self._begin(result['clock'])
        measured = result['nets']
        ratios = {key: one['ms'] / measured[key]['ms'] for key, one in self.references.items()}
        ratio = math.exp(sum(map(math.log, ratios.values())) / len(ratios)) if ratios else 1.0
        unlike = max((abs(one / ratio - 1) for one in ratios.values()), default=0.0)
        session = dict(about, ratio=ratio, unlike=unlike, references=ratios, load=result['load'])
        for net in nets:
            one = measured[net.key]
            self.here['nets'][net.key] = dict(
                arch=net.arch, input_size=list(net.input_size), ms=round(one['ms'] * ratio, 6),
                iqr_ms=round(one['iqr_ms'] * ratio, 6), boxes=one['boxes'], session=len(self.here['sessions']),
            )  # fmt: skip
        if not self.references:
            ordered = sorted(nets, key=lambda net: measured[net.key]['ms'])
            for net in dict.fromkeys([ordered[0], ordered[-1]]):
                self.references[net.key] = dict(
                    arch=net.arch, input_size=list(net.input_size), channels=net.channels, text=net.text,
                    ms=measured[net.key]['ms'],
                )  # fmt: skip
        self.here['sessions'].append(session)
        write_json(self.path, self.content, indent=1, allow_nan=False)
        return session

    def fail(self, net: WholeNet, reason: str) -> None:
        """Adds a net that does not run on this machine, and writes the file."""
        self._begin('')
        known = self.here.setdefault('failed', {})
        known[net.key] = dict(arch=net.arch, input_size=list(net.input_size), reason=reason)
        write_json(self.path, self.content, indent=1, allow_nan=False)

    def forget(self, keys: Sequence[str]) -> None:
        """Removes failed nets, so that they are measured again, and writes the file."""
        if self.failed.keys() & set(keys):
            self.here['failed'] = {key: one for key, one in self.failed.items() if key not in keys}
            write_json(self.path, self.content, indent=1, allow_nan=False)

    def _begin(self, clock: str) -> None:
        """Adds this machine to the file, if it is not there."""
        if not self.here:
            self.here = dict(self.machine, clock=clock, references={}, nets={}, sessions=[])
            self.content['machines'].append(self.here)
        self.here['clock'] = self.here['clock'] or clock

    def _is_here(self, one: Mapping[str, Any]) -> bool:
        return all(one[key] == value for key, value in self.machine.items())

    def _read(self) -> dict[str, Any]:
        if not self.path.is_file():
            return dict(schema=SCHEMA, kind=KIND, machines=[])
        try:
            found = json.loads(self.path.read_text())
        except (ValueError, RecursionError) as error:
            raise DetNASError(f'{self.path} is no file of {KIND}: it is no JSON ({error}). {_OTHER}') from None
        wrong = _problem(found)
        if wrong:
            raise DetNASError(f'{self.path} is no file of {KIND} of schema {SCHEMA}: {wrong}. {_OTHER}')
        return found


_OTHER = 'Name another file in search.costs; the search creates it.'


def _problem(found: Any) -> str | None:
    """Returns what is wrong with the content of a file; None if it is valid."""
    if not isinstance(found, dict) or (found.get('schema'), found.get('kind')) != (SCHEMA, KIND):
        return 'it has another schema or kind'
    if not isinstance(found.get('machines'), list):
        return 'it has no list of machines'
    for one in found['machines']:
        wrong = [name for name, kind in _PARTS.items() if not isinstance(one, dict) or type(one.get(name)) is not kind]
        if wrong:
            return f'a machine lacks {", ".join(wrong)}'
        for net in [*one['nets'].values(), *one['references'].values()]:
            ms = net.get('ms') if isinstance(net, dict) else None
            if not isinstance(ms, (int, float)) or not math.isfinite(ms) or ms <= 0:
                return f'the latency of a net is {ms!r} ms'
        failed = one.get('failed', {})
        entries = failed.values() if isinstance(failed, dict) else [None]
        if not all(isinstance(net, dict) and isinstance(net.get('reason'), str) for net in entries):
            return f'its failed nets are {failed!r:.100}'
    return None


def _machine_text(machine: Mapping[str, Any]) -> str:
    stack = ', '.join(f'{name} {value}' for name, value in machine['versions'].items())
    return f'{device_text(machine["device"])} ({stack})'


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Locks a file during a block; waits while another process has locked it.

    Args:
        path: The file.
        waiting: Called once if another process has locked it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f'{path.name}.lock')
    try:
        handle = lock(beside)
    except BlockingIOError:
        waiting()
        handle = lock(beside, wait=True)
    try:
        yield
    finally:
        os.close(handle)
