"""What a search by latency has found, measured on the device that its tables are from."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detnas_mm.engine.latency import UNSTEADY, foretold_text, latency_cost, mark_beaten, progress_bar, write_json
from detnas_mm.engine.structure_latency import REFERENCES
from detnas_mm.errors import DetNASError, MissingFileError
from detnas_mm.latency.device import describe_device, device_text
from detnas_mm.latency.measure import compared, measure_nets, milliseconds
from detnas_mm.latency.stopwatch import stopwatch
from detnas_mm.latency.timing import Pace
from detnas_mm.search import CONFIG, LEDGER, SearchJob, number_text, read_ledger
from detnas_mm.search.ledger import differences
from detnas_mm.systems.mae_det.measure_structures import NetBuilder, other_work
from detnas_mm.systems.mae_det.structure import read_structure
from detnas_mm.systems.mae_det.structure_latency import StructureLatency

#: Few nets, so they take a fraction of what the tables took.
PACE = Pace(rounds=10)
#: What of a search its nets are judged by.
_JUDGED_BY = ('space', 'objectives', 'budget')


def measure_found(job: SearchJob, pace: Pace = PACE, say: Callable[[str], None] = print) -> dict[str, Any] | None:
    """Measures the exported nets of a search by :class:`StructureLatency`; writes ``measured.json`` in the work dir.

    ResNet-50 takes turns with them, so that limits in multiples of its latency are looked at anew, too.

    Args:
        job: A finished search.
        pace: How thoroughly.
        say: Receives lines of text.

    Returns:
        What ``measured.json`` holds; None if the search knows no such latency, or its tables are of another device.

    Raises:
        FileNotFoundError: If the work dir holds no finished search.
        ValueError: If it holds that of another config.
    """
    name, _ = latency_cost(job.cfg, StructureLatency)
    if name is None:
        return None
    assert job.work_dir is not None
    work_dir = job.work_dir
    if not (work_dir / 'best.json').is_file():
        raise MissingFileError(f'{work_dir} has no best.json: it is no folder of a finished search.')
    _check_config(job, work_dir)
    table: StructureLatency = job.budget.cost_model(name)
    device = table.measurement['device']
    here = describe_device(device['kind'])
    if here['name'] != device['name']:
        say(
            f'Latencies are foretold, not measured: the tables are of {device_text(device)}. Measure there what was '
            f'found: python tools/analysis_tools/measure_latency.py {_config_of(work_dir)} --found --work-dir '
            f'{shlex.quote(str(work_dir))}'
        )
        return None
    entries = json.loads((work_dir / 'best.json').read_text())
    say(f'Measuring what was found on {device_text(device)}, {pace.rounds} rounds of {len(entries)} …')
    archs = {text: read_structure(structure) for text, structure in REFERENCES.items()}
    archs |= {entry['arch']: job.space.parse(entry['arch']) for entry in entries}
    with _threads(device.get('threads')):
        build = NetBuilder(device['kind'])
        image = torch.randn(1, 3, *table.input_size, generator=torch.Generator().manual_seed(pace.seed))
        runs = {text: build(arch) for text, arch in archs.items()}
        inputs, watch = [image.to(device['kind'])], stopwatch(device['kind'])
        bar, before = progress_bar('measuring'), other_work(device['kind'])
        measured, even = measure_nets(runs, inputs, watch, pace, bar, before)
    units = {text: milliseconds(np.median(even[text])) for text in REFERENCES}
    foretold = {entry['arch']: table.total(archs[entry['arch']]) * table.unit_ms / 1000 for entry in entries}
    check = compared(foretold, measured, even)
    found = dict(
        device=device,
        part=table.part,
        input_size=list(table.input_size),
        pace=vars(pace),
        objectives=[vars(objective) for objective in job.objectives],
        references_ms=dict(tables=table.measurement['references_ms'], now=units),
        predictions={key: value for key, value in check.items() if key != 'rows'},
        nets=[_net(entry, row, job, units) for entry, row in zip(entries, check['rows'], strict=True)],
    )
    judged = [net | dict(costs=net['as_measured']) for net in found['nets']]
    mark_beaten(judged, job.objectives, name)
    for net, judgement in zip(found['nets'], judged, strict=True):
        net['beaten'] = judgement['beaten']
    write_json(work_dir / 'measured.json', found, indent=1, allow_nan=False)
    say(found_text(found))
    lowered = lower_limits(job, found['nets'][0])
    if lowered:
        say(
            f'To search with limits as much lower as the best net took longer than foretold: python tools/search.py '
            f'{_config_of(work_dir)} --work-dir {shlex.quote(f"{work_dir}_lower")} --cfg-options {" ".join(lowered)}'
        )
    return found


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


def _net(entry: Mapping[str, Any], row: Mapping[str, Any], job: SearchJob, units: Mapping[str, float]) -> dict:
    """A found net: as foretold, as measured, and which limits it then breaks."""
    as_measured = dict(entry['costs'])
    for name in as_measured:
        cost = job.budget.cost_model(name)
        if isinstance(cost, StructureLatency):
            as_measured[name] = row['measured_ms'] / (1.0 if cost.relative_to is None else units[cost.relative_to])
    return dict(
        id=entry['id'],
        arch=entry['arch'],
        fitness=entry['metrics'],
        costs=entry['costs'],
        as_measured=as_measured,
        **{key: row[key] for key in ('predicted_ms', 'measured_ms', 'iqr_ms')},
        breaks={c.cost: str(c) for c in job.budget.constraints if not c.low <= as_measured[c.cost] <= c.high},
    )


def lower_limits(job: SearchJob, net: Mapping[str, Any]) -> list[str]:
    """Options of the command line that lower the limits on latency which a net exceeds as measured."""
    return [
        f'search.constraints.{number}.high={limit.high * net["costs"][limit.cost] / net["as_measured"][limit.cost]:.4g}'
        for number, limit in enumerate(job.budget.constraints)
        if limit.cost in net['breaks'] and net['as_measured'][limit.cost] > limit.high
    ]


def found_text(found: Mapping[str, Any]) -> str:
    """Found nets as a table, foretold beside measured, and how well latencies were foretold."""
    metric = found['objectives'][0]['name']
    height, width = found['input_size']
    lines = [
        f'{metric}; latency in ms of the {found["part"]}, one image of {height}x{width}, '
        f'{device_text(found["device"])}',
        f'{"net":14}{metric:>12}{"foretold":>10}{"measured":>10}{"spread":>10}  architecture',
    ]
    for net in found['nets']:
        lines.append(
            f'{net["id"]:14}{net["fitness"][metric]:12.4f}{net["predicted_ms"]:10.3f}{net["measured_ms"]:10.3f}'
            f'{net["iqr_ms"]:10.3f}  {net["arch"]}'
        )
        told = ', '.join(f'{name} {number_text(net["as_measured"][name])}' for name in net['breaks'])
        if told:
            lines.append(f'{"":14}breaks {" and ".join(net["breaks"].values())} as measured: {told}')
        if net['beaten']:
            lines.append(f'{"":14}beaten as measured')
    kept_pace = found['predictions']['iqr_percent'] <= 100 * UNSTEADY
    for name, ms in found['references_ms']['now'].items():
        with_tables = found['references_ms']['tables'].get(name)
        kept_pace &= with_tables is not None and abs(ms / with_tables - 1) <= UNSTEADY
        before = f'{"–":>10}' if with_tables is None else f'{with_tables:10.3f}'
        lines.append(f'{name:26}{before}{ms:10.3f}  (with the tables, and now)')
    return '\n'.join(lines + foretold_text(found['predictions'], kept_pace))


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Lets torch use as many threads as the tables were measured with; None for as many as it does."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
