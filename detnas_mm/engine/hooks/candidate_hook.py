"""Hook for the trainings of candidates of a search."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from detnas_mm.checkpoints import load_checkpoint_file, weights_in
from detnas_mm.errors import DetNASError

#: Seconds between writes of the progress.
_EVERY = 2.0


class CandidateFailed(DetNASError):
    """The candidate cannot be trained; the message says why, in the same words in every run."""


class TrialOver(Exception):
    """A trial has trained for as many iterations as it should."""


class CandidateHook(Hook):
    """Writes the progress of a training; stops it at a rung, or when a loss is not finite.

    Args:
        by_epoch: Whether the schedule counts epochs; else iterations.
        until: Epoch or iteration after which the training stops; another start resumes there.
        note: Takes the finished and the total number of epochs or iterations.
        trial: Number of iterations of a trial training; None for a whole training.

    Attributes:
        seconds: Seconds of each iteration of a trial, data loading included.
        iterations: Number of iterations of the whole training.
    """

    priority = 'LOWEST'  # after the checkpoint

    def __init__(
        self, by_epoch: bool, until: int, note: Callable[[float, int], None], trial: int | None = None
    ) -> None:
        self.by_epoch, self.until, self.note, self.trial = by_epoch, until, note, trial
        self.seconds: list[float] = []
        self.iterations = 0
        self._noted = 0.0
        self._last = 0.0

    def before_train(self, runner: Runner) -> None:
        """Stops the training at once if it has reached the rung."""
        self.iterations, self._last = runner.max_iters, time.perf_counter()
        if (runner.epoch if self.by_epoch else runner.iter) >= self.until:
            runner.train_loop.stop_training = True

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Checks the losses and writes the progress.

        Raises:
            CandidateFailed: If a loss is not finite.
            TrialOver: After the last iteration of a trial.
        """
        values = {key: torch.as_tensor(value) for key, value in (outputs or {}).items()}
        wrong = [key for key, value in values.items() if not torch.isfinite(value).all()]
        if wrong:
            raise CandidateFailed(f'{wrong[0]} is not finite at iteration {runner.iter + 1}')
        now = time.perf_counter()
        if self.trial is not None:
            self.seconds.append(now - self._last)
            self._last = now
            if len(self.seconds) >= self.trial:
                raise TrialOver
        done = runner.iter + 1
        if not self.by_epoch and done >= self.until:
            runner.train_loop.stop_training = True
        if now - self._noted >= _EVERY or runner.train_loop.stop_training:
            self._noted = now
            iterations = len(runner.train_loop.dataloader) if self.by_epoch else 1
            self.note(done / iterations, self.until)

    def after_train_epoch(self, runner: Runner, metrics: Any = None) -> None:
        """Stops at a rung that counts epochs."""
        if self.by_epoch and runner.epoch + 1 >= self.until:
            runner.train_loop.stop_training = True


class InheritHook(Hook):
    """Initialises a model with the tensors of another net that have the same name and shape.

    They are copied one by one, since backbones may refuse a checkpoint that lacks some of their tensors.

    Args:
        file: File of weights.
    """

    priority = 'HIGHEST'

    def __init__(self, file: Path) -> None:
        self.file = file

    def before_train(self, runner: Runner) -> None:
        """Copies the tensors, unless the training was resumed."""
        if runner.iter:
            return
        own = runner.model.state_dict()
        for name, value in inherited(self.file, own).items():
            own[name].copy_(value)


def inherited(file: Path, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of a file of weights that have name and shape of one in a state dict."""
    there = weights_in(load_checkpoint_file(file), file)
    return {name: there[name] for name, value in own.items() if name in there and there[name].shape == value.shape}
