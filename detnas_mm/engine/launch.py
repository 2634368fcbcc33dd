"""Starts trainings, searches and tests from configs, for the command-line tools."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.logging import print_log

from detnas_mm.cli import typed
from detnas_mm.compat import cuda_usable
from detnas_mm.config_types import is_hook, is_other
from detnas_mm.engine.config import fit_to_machine
from detnas_mm.engine.export import Exporter
from detnas_mm.engine.found import measure_found
from detnas_mm.engine.hooks import SearchHook, TruthHook
from detnas_mm.engine.hooks.search_hook import unwrapped
from detnas_mm.engine.inputs import JobInputs
from detnas_mm.engine.next_steps import after_training
from detnas_mm.engine.pretrained import check_pretrained
from detnas_mm.engine.process_group import join_process_group
from detnas_mm.engine.resume import resume, resume_as_written
from detnas_mm.engine.runner import NamedRunner
from detnas_mm.engine.search import run_search
from detnas_mm.engine.settings import JobSettings
from detnas_mm.errors import DetNASError, library_errors
from detnas_mm.models import check_neck
from detnas_mm.registry import building
from detnas_mm.search import SearchJob
from detnas_mm.spaces.images import check_images
from detnas_mm.terminal import doing


def search_job(
    cfg: Config,
    checkpoint: str | None = None,
    seed: int | None = None,
    ready: Callable[[SearchJob], Any] = lambda job: None,
    retry_failed: bool = False,
    fail_lost: bool = False,
) -> SearchJob:
    """Parses and checks the ``search`` section of a config, once a process.

    Args:
        cfg: The config as written; left as it is.
        checkpoint: The trained supernet, or another checkpoint of its model. Defaults to the config's ``load_from``.
        seed: Replaces ``search.seed``.
        ready: Called after the section is parsed and before it is checked; may make files that it names.
        retry_failed: See :class:`SearchJob`.
        fail_lost: See :class:`SearchJob`.

    Raises:
        SystemExit: With one sentence, if the section is missing or does not fit.
    """
    if 'search' not in cfg:
        raise SystemExit(
            f'error: {cfg.filename} has no `search` section. Inherit one of configs/_base_/search/, or use a config '
            f'with search in its name.'
        )
    written = copy.deepcopy(cfg)
    if seed is not None:
        written.search.seed = seed
    if checkpoint:
        written.load_from = checkpoint
    try:
        job = SearchJob.from_config(written)
        job.retry_failed, job.fail_lost = retry_failed, fail_lost
        if job.evaluator is not None and not job.needs_model and checkpoint:
            print_log(f'{type(job.evaluator).__name__} needs no model: {checkpoint} is not read.', logger='current')
            job.cfg.pop('load_from')
        job.exporter = Exporter(job)
    except DetNASError as error:
        raise SystemExit(f'error: {error}') from error
    ready(job)
    try:
        job.prepare()
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
    retry_failed: bool = False,
    fail_lost: bool = False,
) -> SearchJob:
    """Runs the search of a config; trains only if the search itself is a training run.

    Args:
        cfg: The config as written.
        checkpoint: See :func:`search_job`.
        seed: See :func:`search_job`.
        trust: Whether checkpoints may contain more than tensors.
        ready: See :func:`search_job`; called after the check that a needed checkpoint is given.
        at_end: See :func:`run`.
        retry_failed: See :class:`SearchJob`.
        fail_lost: See :class:`SearchJob`.

    Returns:
        The search that was run.

    Raises:
        SystemExit: With one sentence, if something does not fit.
    """

    def with_checkpoint(job: SearchJob) -> None:
        if job.evaluator is not None and job.needs_model and not job.cfg.get('load_from'):
            raise SystemExit(
                f'error: {type(job.evaluator).__name__} needs a trained supernet. Give its checkpoint: '
                f'{typed("search.py", Path(cfg.filename), "CHECKPOINT")}'
            )
        ready(job)

    job = search_job(cfg, checkpoint, seed, with_checkpoint, retry_failed, fail_lost)
    if job.evaluator is None and job.strategy is None:  # a training run, which resumes as a search does
        training = copy.deepcopy(job.cfg)
        resume(training, trust=trust)
        run(training, trust, job, at_end)
        return job
    run(search_only(job.cfg) if job.needs_model else job.cfg, trust, job, at_end)
    return job


def search_only(cfg: Config) -> Config:
    """Returns a copy of a config with ``max_epochs=0`` and a hook that searches."""
    out = copy.deepcopy(cfg)
    out.resume = False  # with mmengine's resume it would ignore load_from and search on random weights
    out.train_cfg = ConfigDict(type='EpochBasedTrainLoop', max_epochs=0)
    out.param_scheduler = []
    if is_other(out.get('optim_wrapper'), 'AmpOptimWrapper'):  # nothing is trained, so no GPU is needed
        out.optim_wrapper = dict(type='OptimWrapper', optimizer=out.optim_wrapper.get('optimizer'))
    out.setdefault('default_hooks', ConfigDict()).checkpoint = None
    for kind in ('val', 'test'):
        for part in ('dataloader', 'evaluator', 'cfg'):
            out[f'{kind}_{part}'] = None
    hooks = out.get('custom_hooks') or []
    if not any(is_hook(hook, SearchHook, out.get('default_scope')) for hook in hooks):
        out.custom_hooks = [*hooks, dict(type='detnas_mm.EvolutionSearchHook')]
    return out


def run(
    cfg: Config,
    trust: bool = False,
    job: SearchJob | None = None,
    at_end: Callable[[SearchJob], Any] | None = measure_found,
) -> Any:
    """Trains, and searches if the config has a ``search`` section.

    Args:
        cfg: The config, before :func:`~detnas_mm.engine.config.fit_to_machine`.
        trust: Whether checkpoints may contain more than tensors.
        job: The search, if it is parsed already.
        at_end: Called after a search without a model, on rank 0. By default found nets are measured, if the latency
            table is of this device.

    Raises:
        SystemExit: With one sentence, if a checkpoint cannot be loaded or the work dir cannot be made.
        DetNASError: If another search writes into the work dir, or the search fits neither its hook nor the model.
    """
    JobSettings.read(cfg).check()
    if job is None and 'search' in cfg:
        job = search_job(cfg)
    if cfg.get('resume'):
        cfg = copy.deepcopy(cfg)
        resume_as_written(cfg, trust)
    model = job is None or job.needs_model
    trains = job is not None and job.evaluator is not None and job.evaluator.trains
    inputs = JobInputs.read(cfg, model=model or trains)
    if job is not None and trains:  # each candidate replaces the model of the config
        inputs = replace(inputs, heads=JobInputs.read(_candidate(job)).heads)
    if job is not None and model:
        hooks = [hook for hook in inputs.hooks if issubclass(hook, SearchHook)]
        if not hooks:
            raise SystemExit(
                f'error: {cfg.filename} has a `search` section, but no hook that runs it. To search in a trained '
                f'supernet: {typed("search.py", Path(cfg.filename), "CHECKPOINT")}. To search right after '
                f"training, add dict(type='detnas_mm.EvolutionSearchHook') to custom_hooks."
            )
        for hook in hooks:
            hook.check(job)
    if model and inputs.mixed_precision and not cuda_usable():
        raise DetNASError(
            'Training in mixed precision (--amp, optim_wrapper.type=AmpOptimWrapper) needs a GPU, but there is none '
            'here that torch and mmcv can use. Leave out --amp, or set optim_wrapper.type=OptimWrapper.'
        )
    with doing('checking the files that the config names'):
        inputs.check(trust)
        check_images(cfg)
    fitted = fit_to_machine(cfg)
    with doing('waiting for the other processes'):
        join_process_group(fitted, runner=model)
    if job is not None and not model:
        best = run_search(job)
        if at_end is not None and is_main_process():
            at_end(job)
        return best
    runner = build_runner(fitted, trust)
    for hook in runner.hooks:
        if isinstance(hook, SearchHook):
            hook.job = job
    trained = runner.train()
    if job is None and is_main_process():
        for line in after_training(cfg):
            runner.logger.info(line)
    return trained


def _candidate(job: SearchJob) -> Config:
    """Returns the config of a random candidate, for a search that trains candidates."""
    arch = job.space.sample(np.random.default_rng(job.seed))
    return Config(job.space.configure(job.cfg.to_dict(), arch) or {})


def test(cfg: Config, trust: bool = False) -> dict[str, float]:
    """Tests the checkpoint ``load_from`` of a config on its test set.

    Args:
        cfg: The config, before :func:`~detnas_mm.engine.config.fit_to_machine`.
        trust: Whether checkpoints may contain more than tensors.

    Raises:
        SystemExit: With one sentence, if the checkpoint or the data are missing.
    """
    JobSettings.read(cfg).check()
    with doing('checking the files that the config names'):
        JobInputs.read(cfg, ['test']).check(trust)
        check_images(cfg)
    fitted = fit_to_machine(cfg)
    join_process_group(fitted)
    return build_runner(fitted, trust).test()


def build_runner(cfg: Config, trust: bool = False) -> NamedRunner:
    """Builds a Runner; faults of the config raise expected errors.

    Args:
        cfg: The config, as :func:`~detnas_mm.engine.config.fit_to_machine` returns it.
        trust: Whether checkpoints may contain more than tensors.
    """
    with doing('building the model'), building(str(cfg.filename)):
        runner = NamedRunner.from_cfg(cfg)
    runner.trust = trust
    check_pretrained(unwrapped(runner), trust)
    with library_errors('model'):  # the backbone runs once
        check_neck(unwrapped(runner), cfg.get('model', {}).get('neck'))
    if not any(isinstance(hook, TruthHook) for hook in runner.hooks):
        runner.register_hook(TruthHook())
    return runner
