"""Starting trainings and searches from configs: what the command-line tools share."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from inspect import isclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.runner import Runner

from detnas_mm.cli import typed
from detnas_mm.config_types import as_text, resolve_type
from detnas_mm.engine.config import config_text, fit_to_machine
from detnas_mm.engine.export import Exporter
from detnas_mm.engine.found import measure_found
from detnas_mm.engine.hooks import SearchHook
from detnas_mm.engine.inputs import check_data, check_inputs, check_work_dir
from detnas_mm.engine.process_group import join_process_group, join_without_runner
from detnas_mm.engine.resume import resume
from detnas_mm.engine.search import run_search
from detnas_mm.errors import DetNASError, expected_errors
from detnas_mm.registry import HOOKS
from detnas_mm.search import LEDGER, SearchJob, refuse_if_in_use


def search_job(
    cfg: Config,
    checkpoint: str | None = None,
    seed: int | None = None,
    ready: Callable[[SearchJob], Any] = lambda job: None,
) -> SearchJob:
    """Parses and checks the ``search`` section of a config, once a process.

    Args:
        cfg: The config as written; left as it is.
        checkpoint: The trained supernet, or what else its model starts from. Defaults to the config's ``load_from``.
        seed: Replaces ``search.seed``.
        ready: Called when the section is parsed, before it is checked: files that it names may be made there.

    Raises:
        SystemExit: With one sentence, if the section is missing or does not fit.
    """
    if 'search' not in cfg:
        raise SystemExit(
            f'error: {cfg.filename} has no `search` section. Inherit one of configs/_base_/search/, or take a config '
            f'with search in its name.'
        )
    written = as_text(copy.deepcopy(cfg))
    if seed is not None:
        written.search.seed = seed
    if checkpoint:
        written.load_from = checkpoint
    try:
        config_text(written)
        job = SearchJob.from_config(written)
    except DetNASError as error:
        raise SystemExit(f'error: {error}') from error
    if job.evaluator is not None and not job.needs_model and checkpoint:
        print_log(f'{type(job.evaluator).__name__} needs no model: {checkpoint} is not read.', logger='current')
        written.pop('load_from')
    ready(job)
    try:
        job.prepare()
        Exporter(job)
    except DetNASError as error:
        raise SystemExit(f'error: {error}') from error
    return job


def search(
    cfg: Config,
    checkpoint: str | None = None,
    seed: int | None = None,
    trust: bool = False,
    ready: Callable[[SearchJob], Any] = lambda job: None,
    at_end: Callable[[SearchJob], Any] | None = measure_found,
) -> SearchJob:
    """Runs the search of a config; nothing is trained unless the search itself is a training run.

    Args:
        cfg: The config as written.
        checkpoint: See :func:`search_job`.
        seed: See there.
        trust: Whether checkpoints may hold more than tensors.
        ready: See :func:`search_job`; where the evaluator needs a checkpoint, one was given.
        at_end: See :func:`run`.

    Returns:
        The search that was run.

    Raises:
        SystemExit: With one sentence, if something does not fit.
    """

    def with_checkpoint(job: SearchJob) -> None:
        if job.evaluator is not None and job.needs_model and not job.cfg.get('load_from'):
            raise SystemExit(
                f'error: {type(job.evaluator).__name__} needs a trained supernet. Give its checkpoint: '
                f'{typed("search.py", cfg.filename, "CHECKPOINT")}'
            )
        ready(job)

    job = search_job(cfg, checkpoint, seed, with_checkpoint)
    if job.evaluator is None and job.strategy is None:  # a training run, which resumes as a search does
        training = copy.deepcopy(job.cfg)
        resume(training)
        run(training, trust, job, at_end)
        return job
    run(search_only(job.cfg) if job.needs_model else job.cfg, trust, job, at_end)
    return job


def search_only(cfg: Config) -> Config:
    """Returns a config that trains for no epoch and has a hook that searches; the given one stays as it is."""
    out = copy.deepcopy(cfg)
    out.resume = False  # mmengine's resume would drop load_from and search on random weights
    out.train_cfg = ConfigDict(type='EpochBasedTrainLoop', max_epochs=0)
    out.param_scheduler = []
    out.setdefault('default_hooks', ConfigDict()).checkpoint = None
    for kind in ('val', 'test'):
        for part in ('dataloader', 'evaluator', 'cfg'):
            out[f'{kind}_{part}'] = None
    if not search_hooks(out):
        out.custom_hooks = [*(out.get('custom_hooks') or []), dict(type='detnas_mm.EvolutionSearchHook')]
    return out


def search_hooks(cfg: Config) -> list[type[SearchHook]]:
    """Classes of a config's own hooks that search."""
    found = [resolve_type(hook, HOOKS, cfg.get('default_scope')) for hook in cfg.get('custom_hooks') or ()]
    return [hook for hook in found if isclass(hook) and issubclass(hook, SearchHook)]


def run(
    cfg: Config,
    trust: bool = False,
    job: SearchJob | None = None,
    at_end: Callable[[SearchJob], Any] | None = measure_found,
) -> Any:
    """Trains, and searches where the config has a ``search`` section.

    Args:
        cfg: The config, not fitted to the machine.
        trust: Whether checkpoints may hold more than tensors.
        job: The search, if it is parsed already.
        at_end: What follows a search without a model, on rank 0; by default what was found is measured, if its table of
            latencies is of this device.

    Raises:
        SystemExit: With one sentence, if a checkpoint cannot be loaded or the work dir cannot be made.
        LedgerError: If another search writes into the work dir.
    """
    if cfg.get('work_dir'):
        check_work_dir(Path(cfg.work_dir))
    if 'search' in cfg:
        refuse_second_search(cfg)
        job = job or search_job(cfg)
        if not job.needs_model:
            return _run_without_model(cfg, job, at_end)
        hooks = search_hooks(cfg)
        if not hooks:
            raise SystemExit(
                f'error: {cfg.filename} has a `search` section, but no hook that runs it. To search in a trained '
                f'supernet: {typed("search.py", cfg.filename, "CHECKPOINT")}. To search right after '
                f"training, add dict(type='detnas_mm.EvolutionSearchHook') to custom_hooks."
            )
        for hook in hooks:
            hook.check(job)
    check_inputs(cfg, trust)
    runner = build_runner(cfg)
    for hook in runner.hooks:
        if isinstance(hook, SearchHook):
            hook.job = job
    return runner.train()


def build_runner(cfg: Config) -> Runner:
    """Builds the Runner of a config, fitted to this machine, and joins the process group.

    Raises:
        DetNASError: If a constructor, of whatever package, raises a ValueError.
    """
    fitted = fit_to_machine(cfg)
    join_process_group(fitted)
    with expected_errors():
        return Runner.from_cfg(fitted)


def _run_without_model(cfg: Config, job: SearchJob, at_end: Callable[[SearchJob], Any] | None) -> Any:
    """Searches where candidates need no model: no Runner, and of the data the search's alone."""
    check_data(cfg, ['search'])
    join_without_runner(fit_to_machine(cfg))
    best = run_search(job)
    if at_end is not None and is_main_process():
        at_end(job)
    return best


def refuse_second_search(cfg: Config) -> None:
    """Looks whether another search is at work in the folder, before models and data are loaded.

    Of several processes only the first looks, and only where torchrun says which it is: it may be the one that writes.
    The ledger itself looks again.

    Raises:
        LedgerError: If one is; names it.
    """
    first = cfg.get('launcher', 'none') == 'none' or os.environ.get('RANK') == '0'
    if first and cfg.get('work_dir'):
        refuse_if_in_use(Path(cfg.work_dir) / LEDGER)
