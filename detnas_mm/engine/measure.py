"""A search with measurements: latency tables before it, the found nets after it."""

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
) -> dict[str, Any] | None:
    """Measures missing latency tables, searches, then measures and re-scores the exported nets.

    Existing tables are used, and an existing search in the work dir is resumed.

    Args:
        cfg: The config as written.
        checkpoint: The trained supernet; None if ``load_from`` is in the config, or none is needed.
        device: Device to measure on: ``'cpu'`` or ``'cuda'``.
        pace: Number of rounds and repetitions.
        threads: Number of CPU threads, or None; existing tables must have been measured with as many.
        input_size: (height, width) in pixels, for a search without a measured latency.
        test: Whether the exported nets are also tested on their test set.
        seed: Replaces ``search.seed``.
        trust: Whether the checkpoint may contain more than tensors.
        say: Receives log lines.
        retry_failed: See :class:`SearchJob`.
        fail_lost: See :class:`SearchJob`.

    Returns:
        Content of ``measured.json`` in the work dir; None if candidates were measured on another machine, where the
        exported nets must be measured as well.

    Raises:
        ValueError: If something does not fit, or a table was measured on another device.
    """
    inputs: FoundInputs | None = None

    def ready(job: SearchJob) -> None:
        nonlocal inputs
        JobInputs.read(job.cfg, model=job.needs_model).check(trust)
        if test:
            check_test_set(job)
        check_device(job, device, threads)
        measure_tables(job, device, pace, threads, input_size, trust, say)
        inputs = FoundInputs(job, device, input_size)

    job = search(
        cfg, checkpoint, seed, trust, ready, at_end=None, retry_failed=retry_failed, fail_lost=fail_lost
    )  # fmt: skip
    tests = [key for key, wanted in (('tested', True), ('test_set', test)) if wanted]
    return measure_found(job, pace, device, inputs, tests, say)


def check_device(job: SearchJob, device: str, threads: int | None) -> None:
    """Raises if found nets would be measured on another device than candidates were.

    Raises:
        ValueError: If the devices differ. The message gives both.
    """
    for name, cost in job.budget.models.items():
        if isinstance(cost, NetLatency) and (cost.kind, threads or cost.threads) != (device, cost.threads):
            asked = f'--device {device}' + (f' --threads {threads}' if threads else '')
            raise DetNASError(
                f'search.costs.{name} measures on {cost.kind} with threads={cost.threads}, but the command has '
                f'{asked}. Use '
                f'the same on the command line, or change search.costs.{name}.'
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
    """Measures the missing latency tables of a search; the rest of its section is checked before.

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
                    f'There is no {table.file} yet, and search.costs.{name} has no input_size to measure it at: '
                    f'set input_size=(height, width).'
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
                f'{table.file} was measured on {device_text(there)}, but this command uses {device_text(here)}. Use '
                f'another file: --cfg-options search.costs.{name}.file=FILE, or run on the device of the table.'
            )


def check_test_set(job: SearchJob) -> None:
    """Raises if ``--test`` is given but exported nets cannot be tested.

    Raises:
        ValueError: If nets are exported without weights, or without a test set.
    """
    if not job.exports_weights:
        raise DetNASError(
            f'--test needs trained nets, but {type(job.evaluator).__name__} of this config exports none: train what '
            f'was found, then test it with tools/test.py.'
        )
    assert job.exporter is not None
    training = job.exporter.training
    if not training.get('test_dataloader'):
        raise DetNASError(
            '--test: the exported configs have no test set; set search.export.config to a config with one.'
        )
    JobInputs.read(training, ['test']).check_files()
