"""From a config to what is run and measured: inputs of nets, and the table, with its file."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from tqdm import tqdm

from detnas_mm import __version__
from detnas_mm.cli import typed
from detnas_mm.engine.config import fit_to_machine
from detnas_mm.engine.export import without_search
from detnas_mm.engine.provenance import weights_digest
from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.temporary import quiet
from detnas_mm.files import write_json
from detnas_mm.latency import MeasuredLatency, NetLatency
from detnas_mm.latency.device import describe_device
from detnas_mm.latency.file import SCHEMA
from detnas_mm.latency.inputs import Inputs, load_model, search_val_images
from detnas_mm.latency.measure import measure_table
from detnas_mm.latency.stopwatch import stopwatch
from detnas_mm.latency.subject import LatencySubject
from detnas_mm.latency.text import table_text
from detnas_mm.latency.timing import Pace
from detnas_mm.models import build_model, find_supernet, without_memory
from detnas_mm.registry import LATENCY_SUBJECTS
from detnas_mm.search import Budget, SearchJob
from detnas_mm.spaces import SearchSpace
from detnas_mm.spaces.images import RGB
from detnas_mm.terminal import doing


def progress_bar(what: str) -> Callable[[Iterable[Any]], Iterable[Any]]:
    """Wraps an iteration into a bar with rate and time left."""
    return partial(tqdm, desc=what, unit='run', dynamic_ncols=True, disable=os.environ.get('TQDM_DISABLE') == '1')


def measured_costs(budget: Budget) -> dict[str, MeasuredLatency]:
    """The costs of a search that are measured latencies, by name."""
    return {name: cost for name, cost in budget.models.items() if isinstance(cost, MeasuredLatency)}


def latency_of(budget: Budget) -> tuple[str, MeasuredLatency | NetLatency] | None:
    """The first latency among the costs of a search, by a table or of whole nets, and its name."""
    found = [(name, cost) for name, cost in budget.models.items() if isinstance(cost, (MeasuredLatency, NetLatency))]
    return found[0] if found else None


def subject_of(space: SearchSpace) -> type[LatencySubject] | None:
    """What is measured of a space; None if its nets have no table."""
    name = space.latency_subject
    found = None if name is None else LATENCY_SUBJECTS.get(name)
    if name is not None and found is None:
        raise DetNASError(
            f'{name!r}, which {type(space).__name__} names, is no latency subject. There are: '
            f'{", ".join(sorted(LATENCY_SUBJECTS.module_dict))}.'
        )
    return found


def search_val_of(job: SearchJob | None) -> dict[str, Any] | None:
    """A search's config with search-val as its test; None if its evaluator looks at no images."""
    return None if job is None or job.evaluator is None else job.evaluator.rescoring(without_search(job.cfg))


def measure_latency(
    cfg: Config,
    checkpoint: str | None,
    file: str | Path,
    part: str,
    input_size: Any,
    device: str,
    pace: Pace | None = None,
    nets: int = 30,
    grid: int | None = None,
    trust: bool = False,
    job: SearchJob | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measures the latency table of a space and writes it as JSON.

    Args:
        cfg: The config of a search, or of a supernet.
        checkpoint: The trained supernet; without one weights are random and a detector is given noise to look at.
        file: Where the table goes.
        part: ``'backbone'``, or ``'detector'`` where nets are cut out of a detector.
        input_size: (height, width) in pixels.
        device: ``'cpu'`` or ``'cuda'``.
        pace: How thoroughly.
        nets: Random whole nets to check the sums by.
        grid: Widths of a place that are measured, where the space has widths.
        trust: See :func:`~detnas_mm.checkpoints.load_checkpoint_file`.
        job: The search, if it is parsed already.
        say: Receives lines of text.

    Returns:
        What the file holds.

    Raises:
        ValueError: If something does not fit.
    """
    pace = pace or Pace()
    if nets < 2:
        raise DetNASError(f'The check needs 2 nets or more; got {nets}.')
    if job is None and 'search' in cfg:
        job = SearchJob.from_config(cfg)
    space = _space_of(cfg) if job is None else job.space
    subject_type = _checked_subject(space, part, checkpoint, grid)
    cfg = fit_to_machine(cfg)
    inputs = Inputs(part, input_size, device, _images(cfg, checkpoint, part, job), space.in_channels or RGB)
    watch = stopwatch(device)
    # Quiet, since every net says how its weights begin, and how much of them was found.
    with doing('measuring'), quiet(), torch.random.fork_rng():
        torch.manual_seed(pace.seed)
        model, digest = None, None
        if subject_type.needs_model:
            cfg.model.backbone.init_cfg = None  # the checkpoint holds all weights; without one they are random
            model = load_model(cfg, checkpoint, device, trust)
            digest = weights_digest(model)[:8] if checkpoint else None  # before nets take the supernet's place
        settings = None if model is None else cfg.model.backbone
        subject = subject_type(space, inputs, model, settings, grid)
        result = measure_table(subject, watch, pace, nets, progress_bar('measuring'))
    found = dict(
        schema=SCHEMA,
        part=part,
        model=subject.model_name,
        weights=digest,
        images=inputs.images,
        space=space.spec(),
        input_size=list(inputs.size),
        batch_size=1,
        device=describe_device(device),
        clock=watch.name,
        versions=dict(detnas_mm=__version__, torch=torch.__version__, python=platform.python_version()),
        measured=datetime.now(UTC).strftime('%Y-%m-%dT%H:%MZ'),
        pace=vars(pace),
        **result,
    )
    write_json(file, found, indent=1, allow_nan=False)
    say(table_text(found, subject.table_key))
    say(f'Written to {file}')
    return found


def _space_of(cfg: Config) -> SearchSpace:
    """The space of a config's supernet, which is built without memory."""
    with quiet(), without_memory():
        return find_supernet(build_model(cfg)).space


def _checked_subject(space: SearchSpace, part: str, checkpoint: str | None, grid: int | None) -> type[LatencySubject]:
    """What is measured of a space, if it can be measured so."""
    subject, name = subject_of(space), type(space).__name__
    if subject is None:
        raise DetNASError(
            f'{name} names no latency_subject, so its nets have no table. Whole nets are measured without one: '
            f'{typed("search.py", "CONFIG", "--measure")}'
        )
    if part not in subject.parts:
        raise DetNASError(f'Nets of {name} are measured as the part {" or ".join(subject.parts)}; got {part!r}.')
    if checkpoint and not subject.needs_model:
        raise DetNASError(f'Nets of {name} are measured with random weights; leave {checkpoint} out.')
    if grid is not None and not subject.has_grid:
        raise DetNASError(f'{name} has no widths to choose, so --grid {grid} means nothing; leave it out.')
    return subject


def _images(cfg: Any, checkpoint: str | None, part: str, job: SearchJob | None) -> list[torch.Tensor] | None:
    """Images of search-val for a trained detector; None for noise."""
    if part != 'detector':
        return None
    if cfg.get('default_scope') != 'mmdet':
        raise DetNASError('The part detector needs a config of mmdet; measure the part backbone of others.')
    if not checkpoint:
        return None
    found = search_val_of(job)
    if found is None:
        raise DetNASError(
            'With a checkpoint a detector is measured on images of search-val: give a config with a search section.'
        )
    return search_val_images(found)
