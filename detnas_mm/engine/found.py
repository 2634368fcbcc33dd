"""What a search has found, measured as whole nets: from their exported configs alone."""

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
from mmengine.config import Config
from mmengine.runner import Runner

from detnas_mm.engine.config import fit_to_machine
from detnas_mm.engine.latency import found_inputs, measured_costs, progress_bar, subject_of
from detnas_mm.errors import DetNASError, MissingFileError
from detnas_mm.evaluators.temporary import quiet
from detnas_mm.files import write_json
from detnas_mm.latency import MeasuredLatency
from detnas_mm.latency.device import describe_device, device_text
from detnas_mm.latency.inputs import Inputs, load_backbone, load_net
from detnas_mm.latency.measure import compared, measure_nets, milliseconds, other_work
from detnas_mm.latency.stopwatch import stopwatch
from detnas_mm.latency.text import found_text
from detnas_mm.latency.timing import Pace, spread
from detnas_mm.search import CONFIG, LEDGER, Objective, SearchJob, read_ledger
from detnas_mm.search.ledger import differences
from detnas_mm.search.pareto import front_ranks
from detnas_mm.visualization import plot_front

#: Few nets, so they take a fraction of what the tables took.
PACE = Pace(rounds=10)
#: What of a search its nets are judged by.
_JUDGED_BY = ('space', 'objectives', 'budget')


def measure_found(
    job: SearchJob,
    pace: Pace = PACE,
    device: str | None = None,
    inputs: Inputs | None = None,
    tests: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> dict[str, Any] | None:
    """Measures the exported nets of a search; writes ``measured.json`` and, of several objectives, ``front.png``.

    Where the search knows a measured latency, nets are measured as its table was, on its device and with its number of
    threads, in turn with the nets that were measured with it, so that limits in multiples of these are looked at again.

    Args:
        job: A finished search.
        pace: How thoroughly.
        device: ``'cpu'`` or ``'cuda'``, where there is no table; None measures nothing then.
        inputs: What nets are run on. Defaults to :func:`found_inputs`.
        tests: What trained nets are tested on besides: ``'tested'`` (search-val), ``'test_set'``.
        say: Receives lines of text.

    Returns:
        What ``measured.json`` holds; None if nothing was measured: there is neither table nor device, or the table is
        of another device.

    Raises:
        FileNotFoundError: If the work dir holds no finished search.
        ValueError: If it holds that of another config.
    """
    name, table = next(iter(measured_costs(job.budget).items()), (None, None))
    if (table is None and device is None) or job.work_dir is None:
        return None
    work_dir = job.work_dir
    if not (work_dir / 'best.json').is_file():
        raise MissingFileError(f'{work_dir} has no best.json: it is no folder of a finished search.')
    _check_config(job, work_dir)
    on = describe_device(str(device)) if table is None else table.measurement['device']
    if describe_device(on['kind'])['name'] != on['name']:
        say(
            f'Latencies are predicted, not measured: the tables are of {device_text(on)}. Measure there what was '
            f'found: python tools/analysis_tools/measure_latency.py {_config_of(work_dir)} --found --work-dir '
            f'{shlex.quote(str(work_dir))}'
        )
        return None
    entries = json.loads((work_dir / 'best.json').read_text())
    say(f'Measuring what was found on {device_text(on)}, {pace.rounds} rounds of {len(entries)} …')
    inputs = inputs or found_inputs(job, on['kind'])
    with _threads(on.get('threads')):
        measured, even = _times(job, table, entries, inputs, pace)
    archs = {entry['arch']: job.space.parse(entry['arch']) for entry in entries}
    units = {text: milliseconds(np.median(rounds)) for text, rounds in even.items() if text not in archs}
    if table is None:
        check = dict(rows=[_row(arch, measured, even) for arch in archs])
    else:
        ms = {text: table.total(arch) * table.unit_ms for text, arch in archs.items()}
        check = compared({text: one / 1000 for text, one in ms.items()}, measured, even)
    found: dict[str, Any] = dict(
        device=on,
        part=inputs.part,
        input_size=list(inputs.size),
        images=inputs.images,
        table=None if table is None else str(table.file),
        latency=name,
        pace=vars(pace),
        objectives=[vars(objective) for objective in job.objectives],
        references_ms=dict(tables={} if table is None else table.measurement.get('references_ms', {}), now=units),
        predictions=None if table is None else {key: value for key, value in check.items() if key != 'rows'},
        nets=[_net(entry, row, job, inputs, units) for entry, row in zip(entries, check['rows'], strict=True)],
    )
    mark_beaten(found['nets'], job)
    for key in tests:
        name = 'search_val' if key == 'tested' else 'config'
        with_weights = [
            pair for pair in zip(entries, found['nets'], strict=True) if {name, 'checkpoint'} <= set(pair[0])
        ]
        if with_weights:
            say(f'Testing {len(with_weights)} nets on {dict(tested="search-val", test_set="the test set")[key]} …')
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
            f'To search with limits as much lower as the best net took longer than predicted: python tools/search.py '
            f'{_config_of(work_dir)} --work-dir {shlex.quote(f"{work_dir}_lower")} --cfg-options {" ".join(lowered)}'
        )
    return found


def _times(
    job: SearchJob, table: MeasuredLatency | None, entries: Sequence[Mapping[str, Any]], inputs: Inputs, pace: Pace
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Seconds of exported nets by their architecture, and of the table's nets to compare with by their name."""
    assert job.work_dir is not None
    subject = subject_of(job.space) if inputs.part == 'backbone' else None
    runs: dict[str, Any] = {}
    if table is not None and subject is not None:
        runs |= {name: load_backbone(settings, inputs) for name, settings in subject.references.items()}
    for entry in entries:
        with quiet():
            cfg = fit_to_machine(Config.fromfile(job.work_dir / entry.get('search_val', entry['config'])))
        checkpoint = entry.get('checkpoint')
        runs[entry['arch']] = load_net(cfg, checkpoint and str(job.work_dir / checkpoint), inputs)
    emptied = 0 if subject is None else subject.other_work
    if table is not None:
        emptied = table.measurement.get('other_work_bytes', emptied)
    before = other_work(emptied, inputs.device)
    return measure_nets(runs, inputs.values, stopwatch(inputs.device), pace, progress_bar('measuring'), before)


def _row(name: str, measured: Mapping[str, np.ndarray], even: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What :func:`compared` says of a net, without a prediction."""
    ms, iqr = milliseconds(np.median(even[name])), milliseconds(spread(measured[name][:, 0]))
    return dict(arch=name, measured_ms=ms, iqr_ms=iqr)


def _net(
    entry: Mapping[str, Any], row: Mapping[str, Any], job: SearchJob, inputs: Inputs, units: Mapping[str, float]
) -> dict[str, Any]:
    """A found net: as predicted, as measured, and which limits it then breaks."""
    as_measured = dict(entry['costs'])
    for name, cost in measured_costs(job.budget).items():
        if (cost.part, cost.input_size) == (inputs.part, inputs.size):
            as_measured[name] = row['measured_ms'] / (1.0 if cost.relative_to is None else units[cost.relative_to])
    return dict(
        id=entry['id'],
        arch=entry['arch'],
        fitness=entry['metrics'],
        costs=entry['costs'],
        as_measured=as_measured,
        **{key: row[key] for key in ('predicted_ms', 'measured_ms', 'iqr_ms') if key in row},
        breaks={c.cost: str(c) for c in job.budget.constraints if not c.low <= as_measured[c.cost] <= c.high},
        **{key: entry[key] for key in ('config', 'checkpoint', 'search_val') if key in entry},
    )


def mark_beaten(nets: Sequence[dict[str, Any]], job: SearchJob) -> None:
    """Notes which nets others of the front beat once latencies are the measured ones."""

    def gain(net: dict[str, Any], objective: Objective) -> float:
        value = (net['fitness'] | net['as_measured'])[objective.name]
        return value if objective.direction == 'maximize' else -value

    ranks = front_ranks(np.array([[gain(net, objective) for objective in job.objectives] for net in nets]))
    by_latency = any(objective.name in measured_costs(job.budget) for objective in job.objectives)
    for net, rank in zip(nets, ranks.tolist(), strict=True):
        net['beaten'] = by_latency and rank > 0


def lower_limits(job: SearchJob, net: Mapping[str, Any]) -> list[str]:
    """Options of the command line that lower the limits on latency which a net exceeds as measured."""
    return [
        f'search.constraints.{number}.high={limit.high * net["costs"][limit.cost] / net["as_measured"][limit.cost]:.4g}'
        for number, limit in enumerate(job.budget.constraints)
        if limit.cost in net['breaks'] and net['as_measured'][limit.cost] > limit.high
    ]


def tested(config: Path, checkpoint: Path, folder: Path) -> dict[str, float]:
    """The metrics of an exported net by mmengine's own ``Runner.test``, as ``tools/test.py`` runs it.

    Those that are not finite are left out, such as the AP of a class that search-val has no box of.
    """
    cfg = fit_to_machine(Config.fromfile(config))
    cfg.load_from = str(checkpoint)
    cfg.work_dir = str(folder)
    cfg.log_level = 'WARNING'
    cfg.launcher = 'none'
    cfg.experiment_name = f'test_{checkpoint.stem}_{time.time_ns()}'
    with quiet():
        metrics = Runner.from_cfg(cfg).test()
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def _config_of(work_dir: Path) -> str:
    """The config that the search ran with, overrides included, as it is typed."""
    return shlex.quote(str(work_dir / CONFIG))


def _check_config(job: SearchJob, work_dir: Path) -> None:
    """Refuses to judge what was found by the limits of another search.

    Raises:
        ValueError: Names what differs.
    """
    if not (work_dir / LEDGER).is_file():
        return
    there, now = read_ledger(work_dir / LEDGER)[0], job.header()
    found = differences(*({key: header.get(key) for key in _JUDGED_BY} for header in (there, now)))
    if found:
        raise DetNASError(
            f'{work_dir} holds another search than this config: {found}. Give the config that it ran with: '
            f'{_config_of(work_dir)}'
        )


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Lets torch use as many threads as the tables were measured with; None for as many as it does."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
