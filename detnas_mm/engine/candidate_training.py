"""Trains and evaluates one candidate of a search, from its last checkpoint."""

from __future__ import annotations

import contextlib
import gc
import math
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict

from detnas_mm.checkpoints import load_checkpoint_file, weights_in
from detnas_mm.cli import read_file
from detnas_mm.config_types import is_hook
from detnas_mm.engine.config import fit_to_machine
from detnas_mm.engine.hooks import EpochSeedHook, IterationSeedHook
from detnas_mm.engine.hooks.candidate_hook import CandidateFailed, CandidateHook, InheritHook, TrialOver, inherited
from detnas_mm.engine.launch import build_runner
from detnas_mm.engine.resume import last_checkpoint, resume
from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.training.folder import (
    CONFIG,
    PROGRESS,
    TRAINING,
    WEIGHTS,
    drop_training,
    read_progress,
    standing,
    work_of,
)
from detnas_mm.evaluators.training.schedule import Schedule
from detnas_mm.evaluators.training.search_val import UnroundedMetrics, judged_on_search_val, written_metrics
from detnas_mm.files import replacing, write_json
from detnas_mm.search.record import NO_DETECTIONS


class Training:
    """Training of one candidate, from its last checkpoint.

    Args:
        folder: The candidate's folder.
        key: Key of the task.
        until: Epoch or iteration at which the training stops for now; None for its end.
        inherit: File of weights that initialise the tensors of equal name and shape.
        trial: Train for this many iterations only, to measure their time.

    Attributes:
        before: Seconds that earlier starts took.
    """

    def __init__(
        self, folder: Path, key: str, until: int | None, inherit: Path | None = None, trial: int | None = None
    ) -> None:
        self.folder, self.inherit, self.trial = folder, inherit, trial
        self.work = work_of(key)
        self.cfg = read_file(folder / CONFIG)
        self.schedule = Schedule.read(self.cfg)
        self.until = self.schedule.total if until is None else until
        self.begun = time.monotonic()
        noted = read_progress(folder)
        if noted.get('work') != self.work or self.schedule.inexact or not self._resumes():
            drop_training(folder)  # of another config, or it cannot be resumed
            noted = {}
        elif self._position() > self.until:
            drop_training(folder)  # its weights are those of a later rung
            noted = {}
        self.before = float(noted.get('seconds', 0))
        self.note(float(noted.get('done', 0)), self.until)

    @property
    def seconds(self) -> float:
        """Seconds of this start and of earlier ones."""
        return self.before + time.monotonic() - self.begun

    def note(self, done: float, until: int) -> None:
        """Writes the progress, for the log of the search and for the time limit of the next start."""
        write_json(
            self.folder / PROGRESS,
            dict(work=self.work, done=done, until=until, unit=self.schedule.unit, seconds=self.seconds),
        )

    def run(self) -> dict[str, Any]:
        """Trains and evaluates; returns metrics, times and more for the result.

        Raises:
            CandidateFailed: If a loss is not finite, or there are no detections.
        """
        if self._position() < self.until:
            self._train()
        checkpoint = last_checkpoint(self.folder / TRAINING)
        assert checkpoint is not None  # the hook has written one
        trained = self.seconds
        metrics, own = self._evaluate(checkpoint)
        written = written_metrics(metrics)
        if self.until == self.schedule.total:
            _keep_weights(checkpoint, self.folder / WEIGHTS)
        before = standing(self.folder, self.work) or {}
        more = (
            {}
            if self.inherit is None
            else dict(inherited=before.get('inherited') or [len(inherited(self.inherit, own)), len(own)])
        )
        return dict(
            metrics=written,
            rungs=before.get('rungs', {}) | {str(self.until): written},
            seconds=dict(training=trained, evaluation=self.seconds - trained),
            **{self.schedule.unit: self.until},
            **more,
        )

    def try_out(self) -> dict[str, Any]:
        """Trains for a few iterations; returns the seconds of one, and their number in the whole training."""
        hook = self._train()
        return dict(iteration=statistics.median(hook.seconds[1:] or hook.seconds), iterations=hook.iterations)

    def _resumes(self) -> bool:
        """Returns whether the last checkpoint can be read, if there is one."""
        try:
            last_checkpoint(self.folder / TRAINING)
        except DetNASError as error:
            print(f'{error} This candidate is trained from the start.', flush=True)
            return False
        return True

    def _position(self) -> int:
        path = last_checkpoint(self.folder / TRAINING)
        if path is None:
            return 0
        return int(load_checkpoint_file(path)['meta']['epoch' if self.schedule.by_epoch else 'iter'])

    def _train(self) -> CandidateHook:
        runner = build_runner(fit_to_machine(self._training_config()))
        hook = CandidateHook(self.schedule.by_epoch, self.until, self.note, self.trial)
        runner.register_hook(hook)
        if self.inherit is not None:
            runner.register_hook(InheritHook(self.inherit))
        with contextlib.suppress(TrialOver):
            runner.train()
        del runner
        gc.collect()
        return hook

    def _training_config(self) -> Config:
        """Returns the candidate's config without validation, with checkpoints and seeds for exact resuming."""
        cfg = self._of_a_run(self.cfg.to_dict(), 'train')
        for split in ('val', 'test'):
            for part in ('dataloader', 'evaluator', 'cfg'):
                cfg[f'{split}_{part}'] = None
        by_epoch = self.schedule.by_epoch
        hooks = cfg.get('default_hooks') or ConfigDict()
        interval = checkpoint_interval(hooks.get('checkpoint') or {}, by_epoch, self.schedule.total, self.until)
        hooks.checkpoint = dict(
            type='detnas_mm.AtomicCheckpointHook', by_epoch=by_epoch, interval=interval, max_keep_ckpts=1
        )
        cfg.default_hooks = hooks
        if not self.schedule.inexact:
            kind = EpochSeedHook if by_epoch else IterationSeedHook
            scope = cfg.get('default_scope')
            others = [hook for hook in cfg.get('custom_hooks') or () if not is_hook(hook, kind, scope)]
            cfg.custom_hooks = [*others, dict(type=f'detnas_mm.{kind.__name__}', seed=cfg.randomness.seed)]
        if self.trial is None:
            resume(cfg)
        return cfg

    def _evaluate(self, checkpoint: str) -> tuple[dict[str, float], dict[str, Any]]:
        """Returns metrics on search-val, equal to those of a test of the exported net, and the model's state."""
        cfg = self._of_a_run(judged_on_search_val(self.cfg.to_dict()), 'test')
        cfg.load_from, cfg.resume = checkpoint, False
        runner = build_runner(fit_to_machine(cfg))
        metrics = runner._test_evaluator = UnroundedMetrics(cfg.test_evaluator)  # mmengine has no public setter
        runner.test()
        if not metrics.values:
            raise CandidateFailed(NO_DETECTIONS)
        return metrics.values, runner.model.state_dict()

    def _of_a_run(self, settings: dict[str, Any], name: str) -> Config:
        cfg = Config(settings, filename=self.cfg.filename)
        cfg.work_dir, cfg.launcher = str(self.folder / TRAINING), 'none'
        cfg.experiment_name = f'{name}_{self.folder.name}_{time.time_ns()}'
        return cfg


def checkpoint_interval(given: Mapping[str, Any], by_epoch: bool, total: int, until: int) -> int:
    """Returns the number of iterations (or epochs) between checkpoints: close to the config's, a divisor of ``until``.

    Args:
        given: Settings of the config's checkpoint hook.
        by_epoch: Whether the schedule counts epochs.
        total: Number of epochs or iterations of the schedule.
        until: Epoch or iteration at which the training stops for now.
    """
    if by_epoch:
        return 1
    own = given.get('interval', 0) if given.get('by_epoch', True) is False else 0
    wanted = own if 0 < own <= total else max(total // 10, 1)
    divisors = [n for n in range(1, until + 1) if until % n == 0]
    return min(divisors, key=lambda number: abs(math.log(number / wanted)))


def _keep_weights(checkpoint: str, file: Path) -> None:
    """Writes the weights of a checkpoint to a file of their own."""
    content = load_checkpoint_file(checkpoint)
    with replacing(file) as draft:
        torch.save(dict(state_dict=dict(weights_in(content, checkpoint))), draft)
