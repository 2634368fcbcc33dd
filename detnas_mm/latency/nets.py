"""The latency of whole detectors, measured before training. Loads no torch: a process of its own measures."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from detnas_mm.checks import keyed, whole
from detnas_mm.errors import DetNASError
from detnas_mm.latency.device import describe_device, device_text
from detnas_mm.latency.net_cost import NetCost
from detnas_mm.latency.net_file import PROTOCOL, NetFile, locked, versions
from detnas_mm.latency.text import session_text
from detnas_mm.latency.timing import Pace
from detnas_mm.latency.whole import WholeNet, write_session
from detnas_mm.registry import COSTS, WORKERS, build_from
from detnas_mm.spaces import Architecture, SearchSpace
from detnas_mm.terminal import doing
from detnas_mm.workers import Task, Workers, WorkersBroken, run_in_order
from detnas_mm.workers.folder import RESULT

#: Few nets a session, and no table is made of them.
ROUNDS = 10


@COSTS.register_module()
class NetLatency(NetCost):
    """Milliseconds that whole detectors take for one image on this machine, measured before they are trained.

    An untrained net is sure of nothing, so its post-processing is fully loaded, for all alike: score thresholds are 0,
    ``nms_pre``, ``max_per_img`` and all else as configured. Each is measured at its own input size, the scale of its
    test pipeline, on noise. What is measured stays in a file, see :class:`~detnas_mm.latency.net_file.NetFile`, by
    model, input size, device, threads and versions: a search that is killed and begun again gives the same rows, and a
    second search, of another space even, measures nothing twice.

    Args:
        space: See :class:`NetCost`.
        file: Where latencies are kept, JSON; made by the search, and shared by searches if they name the same.
        device: ``'cpu'`` or ``'cuda'``.
        threads: Of a CPU. Defaults to 1.
        input_size: See :class:`NetCost`.
        pace: Arguments of :class:`~detnas_mm.latency.timing.Pace`. Defaults to 10 rounds.
        at_once: How many nets are measured in turn at most, besides two for comparison; all are in memory.
        workers: What runs the measuring, a config of :data:`~detnas_mm.registry.WORKERS`, such as a ``SlurmWorkers``
            whose partition has the device. Defaults to None: a process on this machine.

    Raises:
        ValueError: If an argument does not fit.
    """

    name = 'latency'
    unit = 'ms'
    #: Milliseconds in one unit of the cost.
    unit_ms = 1.0

    def __init__(
        self,
        space: SearchSpace | Mapping[str, Any],
        file: str | Path,
        device: str = 'cpu',
        threads: int = 1,
        input_size: int | Sequence[int] | None = None,
        pace: Mapping[str, Any] | None = None,
        at_once: int = 8,
        workers: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(space, input_size)
        if device not in ('cpu', 'cuda'):
            raise DetNASError(f"device must be 'cpu' or 'cuda'; got {device!r}.")
        self.file = Path(file)
        self.kind = device
        self.threads = whole('threads', threads, 1)
        fields = tuple(vars(Pace()))
        self.pace = Pace(**dict(rounds=ROUNDS) | keyed('pace', pace or {}, fields, f'dict(rounds={ROUNDS})'))
        self.at_once = whole('at_once', at_once, 1)
        self.elsewhere = workers is not None
        local = dict(type='LocalWorkers', count=1, threads=threads)
        self.workers: Workers = build_from(WORKERS, local if workers is None else workers)

    @cached_property
    def machine(self) -> dict[str, Any]:
        """``device``, ``versions`` and ``protocol`` of what is measured; asked of the workers where they are elsewhere.

        Raises:
            DetNASError: If there is no such device.
        """
        if self.elsewhere:
            with locked(self.file, self._say_waiting):
                found = self._run([])['machine']
        else:
            device = describe_device(self.kind, self.threads)
            if device['name'] is None:
                raise DetNASError("This machine has no CUDA device that torch can use; measure with device='cpu'.")
            found = dict(device=device, versions=versions())
        return dict(found, protocol=PROTOCOL)

    @cached_property
    def _kept(self) -> NetFile:
        """The file as this process knows it."""
        found = NetFile(self.file, self.machine)
        line = found.unused()
        if line:
            self._log(line)
        return found

    @property
    def device(self) -> dict[str, Any]:
        """What is measured on, see :func:`~detnas_mm.latency.device.describe_device`."""
        return self.machine['device']

    @property
    def scope(self) -> str:  # type: ignore[override]
        """What is measured, where, and at which size."""
        return f'ms an image, {PROTOCOL}, at the input size of each, on {device_text(self.device)}'

    def spec(self) -> dict[str, Any]:
        """See :meth:`CostModel.spec`: the machine. Numbers are in the file, and those of a row never change there."""
        size = {} if self.input_size is None else dict(input_size=list(self.input_size))
        return dict(type='NetLatency', **size, **self.machine)

    def confirm(self, known: Mapping[Architecture, float]) -> None:
        """See :meth:`CostModel.confirm`: the file must hold them, since new ones are made comparable with its own."""
        for arch, ms in known.items():
            kept = self._kept.nets.get(self.net(arch).key)
            if kept is None or float(kept['ms']) != ms:
                there = 'no latency' if kept is None else f'{kept["ms"]:g} ms'
                raise DetNASError(
                    f'{self.file} holds {there} of '
                    f'{self.space.describe(arch)} as it is now, and the ledger says {ms:g} ms: rows of this search '
                    f'would not be comparable. Give search.costs.{self.name}.file as it was, or search in another '
                    f'folder (--work-dir).'
                )

    def value(self, arch: Architecture) -> float:
        return float(self._entry(arch)['ms'])

    def spread(self, arch: Architecture) -> float:
        """Milliseconds by which the latency of an architecture is uncertain: nets within it count as equally quick.

        The interquartile range of its rounds, or by how much the nets for comparison disagreed in its session, if that
        is more. The architecture must have been measured.
        """
        entry = self._entry(arch)
        unlike = self._kept.here['sessions'][entry['session']]['unlike']
        return float(max(entry['iqr_ms'], unlike * entry['ms']))

    def _entry(self, arch: Architecture) -> dict[str, Any]:
        key = self.net(arch).key
        if key not in self._kept.nets:
            raise DetNASError(
                f'{self.space.describe(arch)} was not measured on this machine, by {self.file}: call measure([…]) '
                f'before; or give the file as it was, where a search has measured it.'
            )
        return self._kept.nets[key]

    def measure(self, archs: Sequence[Architecture]) -> None:
        """See :meth:`CostModel.measure`: measures what the file lacks, and writes it there, session by session.

        Raises:
            DetNASError: If a net does not build or run, or its process is lost; names it.
        """
        nets = {net.key: net for net in map(self.net, archs)}
        if all(key in self._kept.nets for key in nets):
            return
        with locked(self.file, self._say_waiting):
            self._kept = NetFile(self.file, self.machine)  # another process may have measured them meanwhile
            missing = [net for key, net in nets.items() if key not in self._kept.nets]
            for first in range(0, len(missing), self.at_once):
                with doing(f'measuring the latency of nets, {first} of {len(missing)} done'):
                    self._session(missing[first : first + self.at_once])

    def _say_waiting(self) -> None:
        self._log(f'Another process measures for {self.file}: waiting for its end.')

    def _session(self, nets: Sequence[WholeNet]) -> None:
        """Measures nets, in turn with those that all sessions have in common."""
        asked = [dict(vars(net), input_size=list(net.input_size)) for net in nets]
        common = [dict(one, key=key) for key, one in self._kept.references.items()]
        result = self._run(asked + [{name: one[name] for name in asked[0]} for one in common])
        if dict(result['machine'], protocol=PROTOCOL) != self.machine:
            raise DetNASError(
                f'The latency of {nets[0].arch} was measured on {device_text(result["machine"]["device"])}, that of '
                f'others on {device_text(self.device)}: name one kind of machine in search.costs.{self.name}.workers.'
            )
        moment = datetime.now(UTC).strftime('%Y-%m-%dT%H:%MZ')
        session = self._kept.add(nets, result, measured=moment, pace=vars(self.pace))
        self._log(session_text([self._kept.nets[net.key] for net in nets], session))

    def _run(self, nets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What a session gives; a process that is lost is started again.

        Raises:
            DetNASError: If a net fails, or the process is lost again and again.
        """
        how = dict(device=self.kind, threads=self.threads, pace=vars(self.pace))
        wanted = json.dumps([how, [net['key'] for net in nets]])
        key = hashlib.sha256(wanted.encode()).hexdigest()[:16]
        folder = self.file.with_name(f'{self.file.name}.sessions') / key
        write_session(folder, nets, **how)
        command = (sys.executable, '-m', 'detnas_mm.latency.session', str(folder.absolute()), '--key', key)
        self.workers.check(folder)
        try:
            (outcome,) = run_in_order(self.workers, [Task(key, command, folder)], resume=self._resume, log=self._log)
        except WorkersBroken as error:
            names = ', '.join(net['arch'] for net in nets) or 'nothing yet'
            raise DetNASError(f'A session that measures latencies ({names}) ended each time: {error}') from error
        result: dict[str, Any] = dict(outcome.result or {})
        failed = result.get('failed')
        if failed:
            (folder / RESULT).unlink()  # its cause may be gone when the search is begun again
            raise DetNASError(
                f'{failed["arch"]} does not run, so its latency cannot be measured: {failed["reason"]}. Traceback: '
                f'{folder}/log.txt'
            )
        shutil.rmtree(folder, ignore_errors=True)
        return result
