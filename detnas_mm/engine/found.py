"""Measures the latency of the nets that a search has found, as whole nets, from their exported configs."""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detnas_mm.cli import read_file, typed
from detnas_mm.engine.config import fit_to_machine
from detnas_mm.engine.found_inputs import FoundInputs
from detnas_mm.engine.latency import latency_of, progress_bar, subject_of
from detnas_mm.engine.runner import NamedRunner
from detnas_mm.errors import DetNASError, MissingFileError
from detnas_mm.evaluators.temporary import quiet
from detnas_mm.files import write_json
from detnas_mm.latency import MeasuredLatency, NetLatency
from detnas_mm.latency.device import describe_device, device_text
from detnas_mm.latency.inputs import Inputs, load_backbone, load_net
from detnas_mm.latency.measure import compared, measure_nets, milliseconds, other_work
from detnas_mm.latency.stopwatch import stopwatch
from detnas_mm.latency.text import found_text
from detnas_mm.latency.timing import Pace, spread
from detnas_mm.latency.whole import loaded
from detnas_mm.registry import building
from detnas_mm.search import CONFIG, LEDGER, Objective, SearchJob, counted, read_ledger
from detnas_mm.search.ledger_file import differences
from detnas_mm.search.pareto import front_ranks
from detnas_mm.terminal import doing
from detnas_mm.visualization import plot_front

#: Fewer rounds than for tables, since there are few nets.
PACE = Pace(rounds=10)


def measure_found(
    job: SearchJob,
    pace: Pace = PACE,
    device: str | None = None,
    inputs: FoundInputs | None = None,
    tests: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> dict[str, Any] | None:
    """Measures the exported nets of a search; writes ``measured.json`` and, with several objectives, ``front.png``.

    If the search has a measured latency, nets are measured like its table, on the same device with the same number of
    threads, alternating with the reference nets, so that limits in multiples of these are checked again. Whole
    detectors whose latency was an objective before training are measured on its device, each at its own input size,
    with trained weights and their post-processing; without weights as before training.

    Args:
        job: A finished search.
        pace: Number of rounds and repetitions.
        device: ``'cpu'`` or ``'cuda'``, if there is no table; None then measures nothing.
        inputs: Inputs of the nets. Defaults to :class:`FoundInputs`.
        tests: Tests of trained nets to run as well: ``'tested'`` (search-val), ``'test_set'``.
        say: Receives log lines.

    Returns:
        Content of ``measured.json``; None if nothing was measured: there is neither table nor device, or the latencies
        are of another device; then the command to run there is logged.

    Raises:
        FileNotFoundError: If the work dir has no finished search.
        ValueError: If it has the search of another config.
    """
    name, cost = latency_of(job.budget) or (None, None)
    if (cost is None and device is None) or job.work_dir is None:
        return None
    work_dir = job.work_dir
    if not (work_dir / 'best.json').is_file():
        raise MissingFileError(f'{work_dir} has no best.json: give the folder of a finished search.')
    check_config(job, work_dir)
    on = describe_device(str(device)) if cost is None else cost.device
    if describe_device(on['kind'])['name'] != on['name']:
        command = typed('analysis_tools/measure_latency.py', work_dir / CONFIG, '--found', '--work-dir', work_dir)
        if isinstance(cost, NetLatency):
            workers = ', on which workers of the cost have measured' if cost.elsewhere else ''
            say(
                f'Latencies are those before training. Found nets are measured again, as trained, on the same device '
                f'only: {device_text(on)}{workers}. This machine has another one. Run there: {command}'
            )
        else:
            say(
                f'Latencies are predicted, not measured: the tables are of {device_text(on)}. Measure there what was '
                f'found: {command}'
            )
        return None
    entries = json.loads((work_dir / 'best.json').read_text())
    nets = counted(len(entries), 'net')
    say(f'Measuring what was found on {device_text(on)}, {counted(pace.rounds, "round")} of {nets} …')
    inputs = inputs or FoundInputs(job, on['kind'])
    table = cost if isinstance(cost, MeasuredLatency) else None
    with _threads(on.get('threads')), doing('measuring the exported nets'):
        measured, even, own = _times(job, cost, entries, inputs, pace)
    archs = {entry['arch'] for entry in entries}
    units = {text: milliseconds(np.median(rounds)) for text, rounds in even.items() if text not in archs}
    if cost is None:
        check = dict(rows=[_row(arch, measured, even) for arch in own])
    else:
        ms = {entry['arch']: entry['costs'][name] * cost.unit_ms for entry in entries}
        check = compared({text: one / 1000 for text, one in ms.items()}, measured, even)
    sizes = {one.size for one in own.values()}
    found: dict[str, Any] = dict(
        device=on,
        part=inputs.part,
        input_size=list(sizes.pop()) if len(sizes) == 1 else None,
        images=' and '.join(dict.fromkeys(one.images for one in own.values())),
        table=None if cost is None else str(cost.file),
        latency=name,
        untrained=isinstance(cost, NetLatency),
        pace=vars(pace),
        objectives=[vars(objective) for objective in job.objectives],
        references_ms=dict(tables={} if table is None else table.measurement.get('references_ms', {}), now=units),
        predictions=None if cost is None else {key: value for key, value in check.items() if key != 'rows'},
        nets=[
            _net(entry, row, job, own[entry['arch']], units) for entry, row in zip(entries, check['rows'], strict=True)
        ],
    )
    mark_beaten(found['nets'], job)
    for key in tests:
        name = 'search_val' if key == 'tested' else 'config'
        with_weights = [
            pair for pair in zip(entries, found['nets'], strict=True) if {name, 'checkpoint'} <= set(pair[0])
        ]
        if with_weights:
            where = dict(tested='search-val', test_set='the test set')[key]
            say(f'Testing {counted(len(with_weights), "net")} on {where} …')
        for entry, net in with_weights:
            folder = work_dir / 'tests' / f'{entry["id"]}_{key}'
            net[key] = tested(work_dir / entry[name], work_dir / entry['checkpoint'], folder)
    write_json(work_dir / 'measured.json', found, indent=1, allow_nan=False)
    written = ['measured.json']
    if len(job.objectives) > 1:
        plot_front(found, read_ledger(work_dir / LEDGER)[1], work_dir / 'front.png')
        written.append('front.png')
    say(found_text(found))
    say(f'Written: {", ".join(str(work_dir / file) for file in written)}; the nets are in {work_dir}/best/')
    lowered = lower_limits(job, found['nets'][0])
    if lowered:
        say(
            'To search with limits as much lower as the best net took longer than predicted: '
            + typed('search.py', work_dir / CONFIG, '--work-dir', Path(f'{work_dir}_lower'), '--cfg-options', *lowered)
        )
    return found


def _times(
    job: SearchJob,
    cost: MeasuredLatency | NetLatency | None,
    entries: Sequence[Mapping[str, Any]],
    inputs: FoundInputs,
    pace: Pace,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Inputs]]:
    """Returns seconds of exported nets by architecture and of the table's nets by name, and inputs of the former."""
    assert job.work_dir is not None
    table = cost if isinstance(cost, MeasuredLatency) else None
    subject = subject_of(job.space) if inputs.part == 'backbone' else None
    runs: dict[str, Any] = {}
    own: dict[str, Inputs] = {}
    if table is not None and subject is not None:
        references = subject.reference_backbones(inputs.channels)
        runs |= {name: load_backbone(settings, inputs.first) for name, settings in references.items()}
    for entry in entries:
        with quiet():
            cfg = fit_to_machine(read_file(job.work_dir / entry.get('search_val', entry['config'])))
        own[entry['arch']] = inputs.of(cfg, 'search_val' in entry)
        checkpoint = entry.get('checkpoint')
        checkpoint = checkpoint and str(job.work_dir / checkpoint)
        if checkpoint is None and isinstance(cost, NetLatency):  # as before training: else it would find no box
            cfg.model = loaded(cfg.model)
        runs[entry['arch']] = load_net(cfg, checkpoint, own[entry['arch']])
    emptied = 0 if subject is None else subject.other_work
    if table is not None:
        emptied = table.measurement.get('other_work_bytes', emptied)
    before = other_work(emptied, inputs.device)
    values = {name: own.get(name, inputs.first).values for name in runs}
    watch = stopwatch(inputs.device)
    return *measure_nets(runs, values, watch, pace, progress_bar('measuring'), before), own


def _row(name: str, measured: Mapping[str, np.ndarray], even: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the entry of a net as in :func:`compared`, without a prediction."""
    ms, iqr = milliseconds(np.median(even[name])), milliseconds(spread(measured[name][:, 0]))
    return dict(arch=name, measured_ms=ms, iqr_ms=iqr)


def _net(
    entry: Mapping[str, Any], row: Mapping[str, Any], job: SearchJob, inputs: Inputs, units: Mapping[str, float]
) -> dict[str, Any]:
    """Returns the entry of a found net: predicted and measured values, and limits that the measured ones break."""
    as_measured = dict(entry['costs'])
    for name, cost in job.budget.models.items():
        if isinstance(cost, NetLatency):
            as_measured[name] = row['measured_ms']
        elif isinstance(cost, MeasuredLatency) and (cost.part, cost.input_size) == (inputs.part, inputs.size):
            as_measured[name] = row['measured_ms'] / (1.0 if cost.relative_to is None else units[cost.relative_to])
    return dict(
        id=entry['id'],
        arch=entry['arch'],
        fitness=entry['metrics'],
        costs=entry['costs'],
        as_measured=as_measured,
        **{key: row[key] for key in ('predicted_ms', 'measured_ms', 'iqr_ms') if key in row},
        input_size=list(inputs.size),
        breaks={c.cost: str(c) for c in job.budget.constraints if not c.low <= as_measured[c.cost] <= c.high},
        **{key: entry[key] for key in ('config', 'checkpoint', 'search_val') if key in entry},
    )


def mark_beaten(nets: Sequence[dict[str, Any]], job: SearchJob) -> None:
    """Marks nets that others of the front dominate by measured latency."""

    def gain(net: dict[str, Any], objective: Objective) -> float:
        value = (net['fitness'] | net['as_measured'])[objective.name]
        return value if objective.direction == 'maximize' else -value

    ranks = front_ranks(np.array([[gain(net, objective) for objective in job.objectives] for net in nets]))
    latencies = [name for name, cost in job.budget.models.items() if isinstance(cost, (MeasuredLatency, NetLatency))]
    by_latency = any(objective.name in latencies for objective in job.objectives)
    for net, rank in zip(nets, ranks.tolist(), strict=True):
        net['beaten'] = by_latency and rank > 0


def lower_limits(job: SearchJob, net: Mapping[str, Any]) -> list[str]:
    """Returns command-line options that lower the latency limits which a net's measured latency exceeds."""
    return [
        f'search.constraints.{number}.high={limit.high * net["costs"][limit.cost] / net["as_measured"][limit.cost]:.4g}'
        for number, limit in enumerate(job.budget.constraints)
        if limit.cost in net['breaks'] and net['as_measured'][limit.cost] > limit.high
    ]


def tested(config: Path, checkpoint: Path, folder: Path) -> dict[str, float]:
    """Tests an exported net by mmengine's ``Runner.test``, like ``tools/test.py``; returns the metrics.

    Metrics that are not finite are left out, such as the AP of a class without boxes in search-val.
    """
    cfg = fit_to_machine(read_file(config))
    cfg.load_from = str(checkpoint)
    cfg.work_dir = str(folder)
    cfg.log_level = 'WARNING'
    cfg.launcher = 'none'
    cfg.experiment_name = f'test_{checkpoint.stem}_{time.time_ns()}'
    with quiet(), building(str(config)):
        runner = NamedRunner.from_cfg(cfg)
    with quiet():
        metrics = runner.test()
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def check_config(job: SearchJob, work_dir: Path) -> None:
    """Raises if the folder has another search than the config.

    Raises:
        ValueError: If they differ. The message gives the differences.
    """
    if not (work_dir / LEDGER).is_file():
        return
    there = read_ledger(work_dir / LEDGER)[0]
    # of the header, the evaluator's part is known after its setup only, which needs its images
    objectives = [vars(objective) for objective in job.objectives]
    now = dict(space=job.space.spec(), objectives=objectives, budget=job.budget.spec())
    found = differences({key: there.get(key) for key in now}, now)
    if found:
        raise DetNASError(
            f'{work_dir} has the search of another config: {found}. Use the config that it ran with: '
            f'{shlex.quote(str(work_dir / CONFIG))}'
        )


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Sets torch's number of threads to that of the tables inside the block; None does not change it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
