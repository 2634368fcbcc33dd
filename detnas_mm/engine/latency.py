"""Measures the latency table of a search space or supernet, from its config to its file."""

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
    """Wraps an iteration into a progress bar with rate and time left."""
    return partial(tqdm, desc=what, unit='run', dynamic_ncols=True, disable=os.environ.get('TQDM_DISABLE') == '1')


def measured_costs(budget: Budget) -> dict[str, MeasuredLatency]:
    """Returns the costs of a search that are measured latencies, by name."""
    return {name: cost for name, cost in budget.models.items() if isinstance(cost, MeasuredLatency)}


def latency_of(budget: Budget) -> tuple[str, MeasuredLatency | NetLatency] | None:
    """Returns the first latency among the costs of a search, by a table or of whole nets, and its name."""
    found = [(name, cost) for name, cost in budget.models.items() if isinstance(cost, (MeasuredLatency, NetLatency))]
    return found[0] if found else None


def subject_of(space: SearchSpace) -> type[LatencySubject] | None:
    """Returns the latency subject of a space; None if its nets have no table."""
    name = space.latency_subject
    found = None if name is None else LATENCY_SUBJECTS.get(name)
    if name is not None and found is None:
        raise DetNASError(
            f'{type(space).__name__}.latency_subject is {name!r}, which is not registered. Registered: '
            f'{", ".join(sorted(LATENCY_SUBJECTS.module_dict))}.'
        )
    return found


def search_val_of(job: SearchJob | None) -> dict[str, Any] | None:
    """Returns a search's config with search-val as test set; None if its evaluator uses no images."""
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
        checkpoint: The trained supernet; without one weights are random and a detector runs on noise.
        file: Path of the table.
        part: ``'backbone'``, or ``'detector'`` if nets are parts of a detector.
        input_size: (height, width) in pixels.
        device: ``'cpu'`` or ``'cuda'``.
        pace: Number of rounds and repetitions.
        nets: Number of random whole nets to check the sums with.
        grid: Number of widths to measure at each position, if the space has widths.
        trust: See :func:`~detnas_mm.checkpoints.load_checkpoint_file`.
        job: The search, if it is parsed already.
        say: Receives log lines.

    Returns:
        Content of the file.

    Raises:
        ValueError: If something does not fit.
    """
    pace = pace or Pace()
    if nets < 2:
        raise DetNASError(f'nets must be 2 or more, for the check; got {nets}.')
    if job is None and 'search' in cfg:
        job = SearchJob.from_config(cfg)
    space = _space_of(cfg) if job is None else job.space
    config = 'CONFIG' if job is None or cfg.filename is None else Path(cfg.filename)
    subject_type = _checked_subject(space, part, checkpoint, grid, config)
    cfg = fit_to_machine(cfg)
    inputs = Inputs(part, input_size, device, _images(cfg, checkpoint, part, job), space.in_channels or RGB)
    watch = stopwatch(device)
    # Quiet, since every net would log its initialisation and the share of its weights that was loaded.
    with doing('measuring'), quiet(), torch.random.fork_rng():
        torch.manual_seed(pace.seed)
        model, digest = None, None
        if subject_type.needs_model:
            cfg.model.backbone.init_cfg = None  # the checkpoint has all weights; without one they are random
            model = load_model(cfg, checkpoint, device, trust)
            digest = weights_digest(model)[:8] if checkpoint else None  # before nets replace the supernet
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
    """Returns the space of a config's supernet, which is built on the meta device."""
    with quiet(), without_memory():
        return find_supernet(build_model(cfg)).space


def _checked_subject(
    space: SearchSpace, part: str, checkpoint: str | None, grid: int | None, config: str | Path
) -> type[LatencySubject]:
    """Returns the latency subject of a space; raises if settings do not fit it.

    Args:
        space: The space.
        part: See :func:`measure_latency`.
        checkpoint: See :func:`measure_latency`.
        grid: See :func:`measure_latency`.
        config: Config of the search, for the command in a message.
    """
    subject, name = subject_of(space), type(space).__name__
    if subject is None:
        raise DetNASError(
            f'{name} has no latency_subject, so its nets have no table. Measure whole nets instead: '
            f'{typed("search.py", config, *([checkpoint] if checkpoint else []), "--measure")}'
        )
    if part not in subject.parts:
        raise DetNASError(f'For {name} part must be {" or ".join(subject.parts)}; got {part!r}.')
    if checkpoint and not subject.needs_model:
        raise DetNASError(f'Nets of {name} are measured with random weights: leave out the checkpoint {checkpoint}.')
    if grid is not None and not subject.has_grid:
        raise DetNASError(f'{name} has no widths to choose: leave out --grid {grid}.')
    return subject


def _images(cfg: Any, checkpoint: str | None, part: str, job: SearchJob | None) -> list[torch.Tensor] | None:
    """Returns images of search-val for a trained detector; None to use noise."""
    if part != 'detector':
        return None
    if cfg.get('default_scope') != 'mmdet':
        raise DetNASError('The part detector needs a config of mmdet; use the part backbone for others.')
    if not checkpoint:
        return None
    found = search_val_of(job)
    if found is None:
        raise DetNASError(
            'A detector with a checkpoint is measured on images of search-val: give a config with a search section.'
        )
    return search_val_images(found)
