"""From one trained supernet to a front of tested nets with their latency on this device."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from detnas_mm.engine.config import fit_to_machine
from detnas_mm.engine.latency import (
    Subject,
    foretold_text,
    latency_cost,
    load_model,
    mark_beaten,
    measure_latency,
    progress_bar,
    summary,
)
from detnas_mm.engine.launch import refuse_second_search, search
from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.detection.metrics import quiet
from detnas_mm.files import write_json
from detnas_mm.latency import LatencyTable
from detnas_mm.latency.device import describe_device, device_text
from detnas_mm.latency.measure import compared, measure_nets
from detnas_mm.latency.stopwatch import stopwatch
from detnas_mm.latency.timing import Pace
from detnas_mm.registry import COSTS, SPACES, build_from
from detnas_mm.search import LEDGER, Objective, SearchJob, number_text, read_ledger
from detnas_mm.visualization import plot_front


def search_front(
    cfg: Any,
    checkpoint: str | None,
    device: str,
    pace: Pace,
    seed: int | None = None,
    trust: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measures what choices take, searches, exports the front, tests its nets and measures them.

    A latency table that is there, and a search that was begun in the work dir, are gone on with.

    Args:
        cfg: A config whose search section has a LatencyTable among its costs, and its name among its objectives.
        checkpoint: The trained supernet; None if ``load_from`` is in the config.
        device: ``'cpu'`` or ``'cuda'``: what to measure on.
        pace: How thoroughly.
        seed: Replaces ``search.seed``.
        trust: Whether the checkpoint may hold more than tensors.
        say: Receives lines of text.

    Returns:
        What ``front.json`` in the work dir holds.

    Raises:
        ValueError: If the config does not fit, or the table was measured on another device.
    """
    check_rest(cfg)
    cost = checked_cost(cfg)
    refuse_second_search(cfg)
    checkpoint = checkpoint or cfg.get('load_from')
    if not Path(cost['file']).is_file():
        say(f'There is no {cost["file"]} yet: measuring what every choice takes on this device.')
        part, size = cost.get('part', 'detector'), cost['input_size']
        say(summary(measure_latency(cfg, checkpoint, cost['file'], part, size, device, pace, trust=trust)))
    table: LatencyTable = build_from(COSTS, cost, space=build_from(SPACES, cfg.search.space))
    measured_on, here = table.measurement['device'], describe_device(device)
    if measured_on != here:
        raise DetNASError(
            f'{cost["file"]} was measured on {device_text(measured_on)}; asked for is {device_text(here)}. Name '
            f'another file for this one: --cfg-options search.costs.latency.file=FILE, or measure on the former.'
        )
    job = search(cfg, checkpoint, seed, trust)
    work_dir = Path(cfg.work_dir)
    nets = json.loads((work_dir / 'best.json').read_text())
    say(f'{len(nets)} nets on the front. Measuring them as they were exported …')
    check = remeasured(cfg, table, nets, work_dir, device, pace)
    say(f'Testing {len(nets)} nets …')
    name, _ = latency_cost(cfg, LatencyTable)
    rows = [
        dict(
            id=net['id'],
            arch=net['arch'],
            fitness=net['metrics'],
            tested=tested(work_dir / net['search_val'], work_dir / net['checkpoint'], work_dir / 'tests' / net['id']),
            costs=net['costs'],
            measured_ms=row['measured_ms'],
            iqr_ms=row['iqr_ms'],
            config=net['config'],
            checkpoint=net['checkpoint'],
        )
        for net, row in zip(nets, check['rows'], strict=True)
    ]
    mark_beaten(rows, job.objectives, str(name))
    front = dict(
        device=here,
        part=table.part,
        input_size=list(table.input_size),
        table=str(cost['file']),
        objectives=[vars(objective) for objective in job.objectives],
        predictions={key: value for key, value in check.items() if key != 'rows'},
        nets=rows,
    )
    write_json(work_dir / 'front.json', front, indent=1, allow_nan=False)
    _, records = read_ledger(work_dir / LEDGER)
    plot_front(front, records, job.objectives[0], str(name), work_dir / 'front.png')
    say(front_text(front, job.objectives[0], str(name)))
    say(f'Written: {work_dir}/front.json, front.png; the nets are in {work_dir}/best/')
    return front


def checked_cost(cfg: Any) -> dict[str, Any]:
    """The config's LatencyTable.

    Raises:
        ValueError: If there is none, it lacks a file or an input size, or nothing is searched by it.
    """
    name, cost = latency_cost(cfg, LatencyTable)
    if name is None or not cost.get('file') or not cost.get('input_size'):
        raise DetNASError(
            "The search section needs costs=dict(latency=dict(type='LatencyTable', file='…', part='detector', "
            'input_size=(height, width))); take a config with search-latency in its name.'
        )
    objectives = [Objective(**objective) for objective in cfg.search.objectives]
    if Objective(name, 'minimize') not in objectives[1:] or objectives[0].name in cfg.search.costs:
        raise DetNASError(
            f"search.objectives must begin with a metric and hold dict(name={name!r}, direction='minimize'); they "
            f'are {objectives}.'
        )
    return cost


def check_rest(cfg: Any) -> None:
    """Builds all of the search section but the latency table, which takes minutes to make, and rehearses it.

    Raises:
        ValueError: If something else does not fit.
    """
    name, _ = latency_cost(cfg, LatencyTable)
    section = dict(cfg.search)
    section['costs'] = {key: cost for key, cost in cfg.search.get('costs', {}).items() if key != name}
    constraints = cfg.search.get('constraints', ())
    if isinstance(constraints, (list, tuple)):
        section['constraints'] = [one for one in constraints if not isinstance(one, dict) or one.get('cost') != name]
    SearchJob.from_config(dict(search=section)).prepare()


def remeasured(
    cfg: Any, table: LatencyTable, nets: Sequence[dict[str, Any]], work_dir: Path, device: str, pace: Pace
) -> dict[str, Any]:
    """Measures exported nets as the table's part was measured; returns :func:`~detnas_mm.latency.measure.compared`."""
    real = table.measurement['images'] != 'noise'
    subject = Subject(cfg, table.part, table.input_size, device, real_images=real)
    runs, predicted = {}, {}
    for net in nets:
        with quiet():
            model: Any = load_model(_exported(work_dir / net['search_val']), str(work_dir / net['checkpoint']), device)
        runs[net['arch']] = model.test_step if table.part == 'detector' else model.backbone
        predicted[net['arch']] = table.total(table.space.parse(net['arch'])) / 1000
    measured, even = measure_nets(runs, subject.inputs, stopwatch(device), pace, progress_bar('measuring'))
    return compared(predicted, measured, even)


def _exported(config: Path) -> Config:
    return fit_to_machine(Config.fromfile(config))


def tested(config: Path, checkpoint: Path, folder: Path) -> dict[str, float]:
    """The metrics of an exported net by mmengine's own ``Runner.test``, as ``tools/test.py`` runs it.

    Those that are not finite are left out, such as the AP of a class that search-val has no box of.
    """
    cfg = _exported(config)
    cfg.load_from = str(checkpoint)
    cfg.work_dir = str(folder)
    cfg.log_level = 'WARNING'
    cfg.launcher = 'none'
    cfg.experiment_name = f'test_{checkpoint.stem}_{time.time_ns()}'
    with quiet():
        metrics = Runner.from_cfg(cfg).test()
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def front_text(front: dict[str, Any], objective: Objective, latency: str) -> str:
    """The front as a table, and how well latencies were foretold."""
    nets = front['nets']
    width = max(len('architecture'), *(len(net['arch']) for net in nets))
    others = [name for name in nets[0]['costs'] if name != latency]
    height, wide = front['input_size']
    heads = ['fitness', 'tested', 'foretold', 'measured', 'spread']
    lines = [
        f'{objective.name}; latency in ms of the {front["part"]}, one image of {height}x{wide}, '
        f'{device_text(front["device"])}',
        f'{"net":14}{"architecture":{width + 2}}'
        + ''.join(f'{head:>10}' for head in heads)
        + ''.join(f'{name:>14}' for name in others),
    ]
    for net in nets:
        score = net['tested'].get(objective.name)
        lines.append(
            f'{net["id"]:14}{net["arch"]:{width + 2}}{net["fitness"][objective.name]:10.4f}'
            + ('         –' if score is None else f'{score:10.3f}')
            + ''.join(f'{value:10.3f}' for value in (net['costs'][latency], net['measured_ms'], net['iqr_ms']))
            + ''.join(f'{number_text(net["costs"][name]):>14}' for name in others)
            + ('  beaten as measured' if net['beaten'] else '')
        )
    return '\n'.join(lines + foretold_text(front['predictions']))
