"""A search with its measuring: tables before it, the nets it has found after it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config

from detnas_mm.engine.found import measure_found
from detnas_mm.engine.found_inputs import FoundInputs
from detnas_mm.engine.inputs import JobInputs
from detnas_mm.engine.latency import measure_latency, measured_costs
from detnas_mm.engine.launch import search
from detnas_mm.errors import DetNASError
from detnas_mm.latency import NetLatency
from detnas_mm.latency.device import describe_device, device_text
from detnas_mm.latency.timing import Pace
from detnas_mm.search import SearchJob


def search_and_measure(
    cfg: Config,
    checkpoint: str | None,
    device: str,
    pace: Pace,
    threads: int | None = None,
    input_size: Any = None,
    test: bool = False,
    seed: int | None = None,
    trust: bool = False,
    say: Callable[[str], None] = print,
    retry_failed: bool = False,
    fail_lost: bool = False,
) -> dict[str, Any]:
    """Measures the table of a search where there is none yet, searches, measures and re-scores the exported nets.

    A table that is there, and a search that was begun in the work dir, are used as they are.

    Args:
        cfg: The config as written.
        checkpoint: The trained supernet; None if ``load_from`` is in the config, or none is needed.
        device: ``'cpu'`` or ``'cuda'``: what to measure on.
        pace: How thoroughly.
        threads: Of a CPU, if that was asked for: a table that is there must have been measured with as many.
        input_size: (height, width) in pixels, for a search without a measured latency.
        test: Whether the exported nets are tested on their test set too.
        seed: Replaces ``search.seed``.
        trust: Whether the checkpoint may hold more than tensors.
        say: Receives lines of text.
        retry_failed: See :class:`SearchJob`.
        fail_lost: See :class:`SearchJob`.

    Returns:
        What ``measured.json`` in the work dir holds.

    Raises:
        ValueError: If something does not fit, or a table was measured on another device.
    """
    inputs: FoundInputs | None = None

    def ready(job: SearchJob) -> None:
        nonlocal inputs
        JobInputs.read(job.cfg, model=job.needs_model).check(trust)
        if test:
            _check_test_set(job)
        check_device(job, device, threads)
        measure_tables(job, device, pace, threads, input_size, trust, say)
        inputs = FoundInputs(job, device, input_size)

    job = search(
        cfg, checkpoint, seed, trust, ready, at_end=None, retry_failed=retry_failed, fail_lost=fail_lost
    )  # fmt: skip
    tests = [key for key, wanted in (('tested', True), ('test_set', test)) if wanted]
    found = measure_found(job, pace, device, inputs, tests, say)
    assert found is not None  # the device is there
    return found


def check_device(job: SearchJob, device: str, threads: int | None) -> None:
    """Refuses to measure what was found on another device than whole nets are measured on before their training.

    Raises:
        ValueError: Names both.
    """
    for name, cost in job.budget.models.items():
        if isinstance(cost, NetLatency) and (cost.kind, threads or cost.threads) != (device, cost.threads):
            asked = f'--device {device}' + (f' --threads {threads}' if threads else '')
            raise DetNASError(
                f'search.costs.{name} measures on {cost.kind} with threads={cost.threads}; asked for is {asked}. Ask '
                f'for the former, or change search.costs.{name}.'
            )


def measure_tables(
    job: SearchJob,
    device: str,
    pace: Pace,
    threads: int | None,
    input_size: Any,
    trust: bool,
    say: Callable[[str], None],
) -> None:
    """Measures the tables of a search that are not there yet; what else its section holds is checked before.

    Raises:
        ValueError: If something does not fit, or a table was measured on another device.
    """
    tables = measured_costs(job.budget)
    missing = [name for name, table in tables.items() if table.missing]
    if missing:
        rest = dataclasses.replace(
            job,
            budget=job.budget.without(missing),
            strategy=copy.deepcopy(job.strategy),
            evaluator=copy.deepcopy(job.evaluator),
        )
        rest.prepare()
    here = describe_device(device)
    for name, table in tables.items():
        if table.missing:
            asked = [other.asked for other in tables.values() if Path(other.file) == Path(table.file)]
            size = next((one['input_size'] for one in asked if one['input_size']), input_size)
            part = next((str(one['part']) for one in asked if one['part']), None)
            if size is None:
                raise DetNASError(
                    f'There is no {table.file} yet, and search.costs.{name} does not say at which size to measure it: '
                    f'give it input_size=(height, width).'
                )
            part = part or ('detector' if job.cfg.get('default_scope') == 'mmdet' else 'backbone')
            checkpoint = job.cfg.get('load_from') if job.needs_model else None
            say(f'There is no {table.file} yet: measuring it on this device.')
            measure_latency(
                job.cfg, checkpoint, table.file, part, size, device, pace, trust=trust, job=job, say=say
            )  # fmt: skip
        there = table.measurement['device']
        compared = dict(there, threads=here.get('threads')) if threads is None and 'threads' in there else there
        if compared != here:
            raise DetNASError(
                f'{table.file} was measured on {device_text(there)}; asked for is {device_text(here)}. Name another '
                f'file for this one: --cfg-options search.costs.{name}.file=FILE, or measure on the former.'
            )


def _check_test_set(job: SearchJob) -> None:
    """Refuses ``--test`` where it has nothing to look at.

    Raises:
        ValueError: If nets are exported without weights, or without a test set.
    """
    if not job.needs_model:
        raise DetNASError(
            f'--test needs trained nets, and {type(job.evaluator).__name__} scores them without training: train what '
            f'was found, then test it with tools/test.py.'
        )
    assert job.exporter is not None
    training = job.exporter.training
    if not training.get('test_dataloader'):
        raise DetNASError('--test: the exported configs have no test set; name one that has it: search.export.config.')
    JobInputs.read(training, ['test']).check_files()
