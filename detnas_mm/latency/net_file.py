"""The durable file of latencies of whole nets: which of its numbers hold here, and how they are made comparable."""

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

SCHEMA = 1
KIND = 'latencies of whole nets'
#: What is measured, in words and in the file: numbers of another protocol are not used.
PROTOCOL = (
    'whole detector, untrained, post-processing fully loaded (score threshold 0, nms_pre and max_per_img as '
    'configured), batch 1, float32'
)
#: What every machine of the file holds.
_PARTS = dict(device=dict, versions=dict, protocol=str, clock=str, references=dict, nets=dict, sessions=list)


def versions() -> dict[str, str | None]:
    """Versions of all that decides how quick a net is, from their distributions; loads none of them."""
    family = FAMILIES[find_family()]
    stack = {module: installed_version(family[module][0]) for module in ('mmcv', 'mmdet')}
    return dict(torch=installed_version('torch'), **stack, detnas_mm=__version__)


class NetFile:
    """Latencies of whole nets by machine: a device with its threads, versions of the stack, and the protocol.

    Numbers of other machines stay in the file and are not used. Those of one machine were measured in sessions, each
    of which measured its nets in turn. The quickest and the slowest net of the first session are measured again in
    every later one, and what is kept of that session is multiplied by the ratio of their first time to that of now:
    numbers are milliseconds of the machine as it was in its first session. A machine changes its pace between sessions
    (heat, power, what else runs), by more than two nets may differ; what changes it for all nets alike leaves the
    ratio, and how unlike the two references' ratios are is kept with the session and is part of the spread of its nets.

    Args:
        path: The file, JSON; it need not exist.
        machine: ``device``, ``versions`` and ``protocol``.

    Raises:
        DetNASError: If the file holds something else.
    """

    def __init__(self, path: Path, machine: Mapping[str, Any]) -> None:
        self.path = path
        self.machine = dict(machine)
        self.content = self._read()
        found = [one for one in self.content['machines'] if self._is_here(one)]
        self.here: dict[str, Any] = found[0] if found else {}

    @property
    def nets(self) -> dict[str, dict[str, Any]]:
        """What was measured on this machine, by key: ``arch``, ``input_size``, ``ms``, ``iqr_ms`` and more."""
        return self.here.get('nets', {})

    @property
    def references(self) -> dict[str, dict[str, Any]]:
        """The nets that sessions are compared by, by key; empty before the first session."""
        return self.here.get('references', {})

    @property
    def failed(self) -> dict[str, dict[str, Any]]:
        """Nets that do not run on this machine, by key: ``arch``, ``input_size`` and ``reason``."""
        return self.here.get('failed', {})

    def knows(self, key: str) -> bool:
        """Returns whether a net was measured, or failed, on this machine."""
        return key in self.nets or key in self.failed

    def unused(self) -> str:
        """A line about numbers of other machines, where there are none of this one; empty otherwise."""
        others = [one for one in self.content['machines'] if not self._is_here(one)]
        if self.here or not others:
            return ''
        what = '; '.join(f'{len(one["nets"])} nets of {_machine_text(one)}' for one in others)
        return f'{self.path} holds {what}. They are not used: this is {_machine_text(self.machine)}.'

    def add(self, nets: Sequence[WholeNet], result: Mapping[str, Any], **about: Any) -> dict[str, Any]:
        """Takes a session into the file, and writes it.

        Args:
            nets: What was to be measured; references need not be among them.
            result: What :func:`~detnas_mm.latency.session.measure_session` returns.
            **about: What else the file is to hold of the session.

        Returns:
            The session: ``ratio``, ``unlike``, ``references`` and what was given.
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
        """Takes a net into the file that does not run on this machine, and writes the file."""
        self._begin('')
        known = self.here.setdefault('failed', {})
        known[net.key] = dict(arch=net.arch, input_size=list(net.input_size), reason=reason)
        write_json(self.path, self.content, indent=1, allow_nan=False)

    def forget(self, keys: Sequence[str]) -> None:
        """Takes failed nets out of the file, so that they are measured again, and writes the file."""
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
            raise DetNASError(f'{self.path} is no file of {KIND}, since it is no JSON ({error}). {_OTHER}') from None
        wrong = _problem(found)
        if wrong:
            raise DetNASError(f'{self.path} is no file of {KIND} of schema {SCHEMA}: {wrong}. {_OTHER}')
        return found


_OTHER = 'Name another file in search.costs; it is made by the search.'


def _problem(found: Any) -> str | None:
    """What is wrong with a file's content; None if nothing is."""
    if not isinstance(found, dict) or (found.get('schema'), found.get('kind')) != (SCHEMA, KIND):
        return 'it holds something else'
    if not isinstance(found.get('machines'), list):
        return 'it has no list of machines'
    for one in found['machines']:
        wrong = [name for name, kind in _PARTS.items() if not isinstance(one, dict) or type(one.get(name)) is not kind]
        if wrong:
            return f'a machine lacks {", ".join(wrong)}'
        for net in [*one['nets'].values(), *one['references'].values()]:
            ms = net.get('ms') if isinstance(net, dict) else None
            if not isinstance(ms, (int, float)) or not math.isfinite(ms) or ms <= 0:
                return f'a net of it takes {ms!r} ms'
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
    """Holds a file for as long as a session takes; waits for the session of another process.

    Args:
        path: The file.
        waiting: Called once if another process holds it.
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
