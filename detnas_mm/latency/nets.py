"""Latency of whole detectors, measured before training in a process of its own. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from detnas_mm.checks import keyed, real, whole
from detnas_mm.errors import DetNASError
from detnas_mm.latency.device import describe_device, device_text
from detnas_mm.latency.net_cost import NetCost
from detnas_mm.latency.net_file import PROTOCOL, NetFile, locked, versions
from detnas_mm.latency.sessions import SessionLost, Sessions
from detnas_mm.latency.text import session_text
from detnas_mm.latency.timing import Pace
from detnas_mm.latency.whole import WholeNet
from detnas_mm.registry import COSTS, WORKERS, build_from
from detnas_mm.spaces import Architecture, SearchSpace
from detnas_mm.terminal import doing
from detnas_mm.workers import OUT_OF_MEMORY, Workers

#: Rounds of a session; fewer than for a table, whose entries are sums of many nets.
ROUNDS = 10
#: Seconds that a step of a session may take: building a net, or running it on the images.
STEP_LIMIT = 1800.0


@COSTS.register_module()
class NetLatency(NetCost):
    """Milliseconds of whole detectors for one image, measured before training.

    Scores of an untrained net are low, so no box would pass its score threshold. All score thresholds are set to 0, so
    that post-processing is fully loaded; ``nms_pre``, ``max_per_img`` and all other settings are kept. Each net is
    measured at its own input size, the scale of its test pipeline, on noise. Latencies are kept in a file, see
    :class:`~detnas_mm.latency.net_file.NetFile`, by model, input size, device, threads and versions. So a search that
    is killed and resumed has the same rows, and searches that share the file measure no net twice.

    Args:
        space: See :class:`NetCost`.
        file: File of latencies, JSON; created by the search. Several searches may share it.
        device: ``'cpu'`` or ``'cuda'``.
        threads: CPU threads. Defaults to 1.
        input_size: See :class:`NetCost`.
        pace: Arguments of :class:`~detnas_mm.latency.timing.Pace`. Defaults to 10 rounds.
        at_once: Largest number of nets of a session, besides two reference nets; all are in memory. Defaults to 8.
        workers: Workers that run sessions, a config of :data:`~detnas_mm.registry.WORKERS`, such as a ``SlurmWorkers``
            whose partition has the device. Defaults to None: a process on this machine.
        step_limit: Seconds that a step of a session may take, building a net or running it on the images, before the
            session is ended. Defaults to 1800.

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
        step_limit: float = STEP_LIMIT,
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
        if not 0 < real('step_limit', step_limit) < math.inf:
            raise DetNASError(f'step_limit must be seconds, more than 0; got {step_limit!r}.')
        how = dict(device=self.kind, threads=self.threads, pace=vars(self.pace))
        self._sessions = Sessions(self.file.with_name(f'{self.file.name}.sessions'), self.workers, how, step_limit)

    @cached_property
    def machine(self) -> dict[str, Any]:
        """``device``, ``versions`` and ``protocol`` of measurements; a session on the workers finds them, if given.

        Raises:
            DetNASError: If there is no such device.
        """
        if self.elsewhere:
            with locked(self.file, self._say_waiting):
                found = self._sessions.run([], self._log)['machine']
        else:
            device = describe_device(self.kind, self.threads)
            if device['name'] is None:
                raise DetNASError("This machine has no CUDA device that torch can use; measure with device='cpu'.")
            found = dict(device=device, versions=versions())
        return dict(found, protocol=PROTOCOL)

    @cached_property
    def _kept(self) -> NetFile:
        """Content of the file."""
        found = NetFile(self.file, self.machine)
        line = found.unused()
        if line:
            self._log(line)
        return found

    @property
    def device(self) -> dict[str, Any]:
        """Device of measurements, see :func:`~detnas_mm.latency.device.describe_device`."""
        return self.machine['device']

    @property
    def scope(self) -> str:  # type: ignore[override]
        """Line about the measurement: unit, protocol and device."""
        return f'ms an image, {PROTOCOL}, at the input size of each, on {device_text(self.device)}'

    def spec(self) -> dict[str, Any]:
        """See :meth:`CostModel.spec`: the machine; latencies in the file never change."""
        size = {} if self.input_size is None else dict(input_size=list(self.input_size))
        return dict(type='NetLatency', **size, **self.machine)

    def confirm(self, known: Mapping[Architecture, float]) -> None:
        """See :meth:`CostModel.confirm`: the file must hold these latencies, as new ones are scaled to its own."""
        for arch, ms in known.items():
            kept = self._kept.nets.get(self.net(arch).key)
            if kept is None or float(kept['ms']) != ms:
                there = 'no latency' if kept is None else f'{kept["ms"]:g} ms'
                raise DetNASError(
                    f'{self.file} has {there} for {self.space.describe(arch)}, and the ledger has {ms:g} ms: new rows '
                    f'could not be compared with those of the ledger. Restore the file of search.costs.{self.name}, or '
                    f'search in another folder (--work-dir).'
                )

    def failure(self, arch: Architecture) -> str | None:
        """See :meth:`CostModel.failure`: the net did not run on the device; kept in the file, as latencies are."""
        reason = self._kept.failed.get(self.net(arch).key, {}).get('reason')
        return None if reason is None else str(reason)

    def forget(self, archs: Sequence[Architecture]) -> None:
        """See :meth:`CostModel.forget`."""
        with locked(self.file, self._say_waiting):
            self._kept = NetFile(self.file, self.machine)
            self._kept.forget([self.net(arch).key for arch in archs])

    def value(self, arch: Architecture) -> float:
        return math.nan if self.failure(arch) is not None else float(self._entry(arch)['ms'])

    def spread(self, arch: Architecture) -> float:
        """Returns the uncertainty of a latency in milliseconds; smaller differences count as ties.

        It is the interquartile range of the rounds, or the difference between both reference nets in that session if
        that is larger. The architecture must have been measured.
        """
        entry = self._entry(arch)
        unlike = self._kept.here['sessions'][entry['session']]['unlike']
        return float(max(entry['iqr_ms'], unlike * entry['ms']))

    def _entry(self, arch: Architecture) -> dict[str, Any]:
        key = self.net(arch).key
        if key not in self._kept.nets:
            raise DetNASError(
                f'{self.space.describe(arch)} was not measured on this machine: {self.file} has no latency of it. Call '
                f'measure([…]) first, or restore the file of the search that measured it.'
            )
        return self._kept.nets[key]

    def measure(self, archs: Sequence[Architecture]) -> None:
        """See :meth:`CostModel.measure`: measures nets that are not in the file, and writes it after each session.

        A net that does not run on the device counts as failed, see :meth:`failure`.

        Raises:
            DetNASError: If a session is lost at every attempt and no other one finishes, or the device has changed.
        """
        nets = {net.key: net for net in map(self.net, archs)}
        if all(self._kept.knows(key) for key in nets):
            return
        with locked(self.file, self._say_waiting):
            self._kept = NetFile(self.file, self.machine)  # another process may have measured them meanwhile
            missing = [net for key, net in nets.items() if not self._kept.knows(key)]
            for first in range(0, len(missing), self.at_once):
                with doing(f'measuring the latency of nets, {first} of {len(missing)} done'):
                    self._measure(missing[first : first + self.at_once])

    def _say_waiting(self) -> None:
        self._log(f'Waiting until another process has finished measuring for {self.file}.')

    def _measure(self, nets: Sequence[WholeNet]) -> None:
        """Measures nets in one session; then each net alone that ran out of memory there, or all if it was lost."""
        alone = list(nets)
        if len(nets) > 1:
            try:
                failed = self._session(nets)
            except SessionLost as error:
                self._log(f'{error}. Each net is measured alone.')
            else:
                alone = [net for net in nets if failed.get(net.key, '').startswith(OUT_OF_MEMORY)]
                self._fail({net: failed[net.key] for net in nets if net.key in failed and net not in alone})
        lost: dict[WholeNet, SessionLost] = {}  # at most one: two in a row are the machine's fault
        for net in alone:
            try:
                failed = self._session([net])
            except SessionLost as error:
                if lost and not self._fail_lost:
                    break
                lost[net] = error
                continue
            self._fail({net: failed[net.key]} if failed else {})
            self._fail({one: why.reason for one, why in lost.items()})
            lost = {}
        if lost and not self._fail_lost:
            (why,) = lost.values()
            raise DetNASError(
                f'{why}. No other session has finished since: either the machine is broken, or this net is at '
                f'fault (memory?). Measured latencies are kept. {self._ways_on()}'
            ) from why
        self._fail({one: why.reason for one, why in lost.items()})

    @property
    def _fail_lost(self) -> bool:
        return self._job is not None and self._job.fail_lost

    def _ways_on(self, give_up: bool = True) -> str:
        """Returns the command that resumes the search, and the one that gives up a lost net."""
        resume = self._job.command() if self._job else ''
        if not resume:
            return 'Start the same command again to resume.'
        assert self._job is not None
        other_way = f'To record it as failed and resume: {self._job.command("--fail-lost")}; to' if give_up else 'To'
        return f'{other_way} resume and try it again: {resume}'

    def _fail(self, failed: Mapping[WholeNet, str]) -> None:
        for net, reason in failed.items():
            self._kept.fail(net, reason)
            self._log(f'{net.arch} has no latency and counts as failed: {reason}')

    def _session(self, nets: Sequence[WholeNet]) -> dict[str, str]:
        """Measures nets and the reference nets in one session.

        Returns:
            Reasons of failures, by key.

        Raises:
            DetNASError: If the device is another one, or a reference net failed.
        """
        asked = [dict(vars(net), input_size=list(net.input_size)) for net in nets]
        common = [dict(one, key=key) for key, one in self._kept.references.items()]
        common = [{name: one[name] for name in asked[0]} for one in common]
        result = self._sessions.run(asked, self._log, common)
        if dict(result['machine'], protocol=PROTOCOL) != self.machine:
            raise DetNASError(
                f'The latency of {nets[0].arch} was measured on {device_text(result["machine"]["device"])}, those of '
                f'others on {device_text(self.device)}, or with other versions: all nodes of '
                f'search.costs.{self.name}.workers must be alike.'
            )
        failed: dict[str, str] = result['failed']
        for one in common:
            if one['key'] in failed:
                raise DetNASError(
                    f'The reference net {one["arch"]} ran in the first session and does not run now: '
                    f'{failed[one["key"]]}. The device may be in use by others, or broken. {self._ways_on(False)}'
                )
        measured = [net for net in nets if net.key not in failed]
        if measured:
            moment = datetime.now(UTC).strftime('%Y-%m-%dT%H:%MZ')
            session = self._kept.add(measured, result, measured=moment, pace=vars(self.pace))
            self._log(session_text([self._kept.nets[net.key] for net in measured], session))
        return failed
