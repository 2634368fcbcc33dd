"""Base class of searches that are training runs: the model learns its architecture during training."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from mmengine.runner import Runner

from detnas_mm.engine.hooks.search_hook import SearchHook
from detnas_mm.engine.provenance import environment, settings_digest
from detnas_mm.engine.search import finish, on_rank_0, open_ledger
from detnas_mm.errors import DetNASError
from detnas_mm.search import Evaluation, Ledger, LedgerError, Proposal, Record, SearchJob, counted
from detnas_mm.search.loop import make_record
from detnas_mm.search.record import VOLATILE
from detnas_mm.spaces import Architecture


class TrainingSearchHook(SearchHook):
    """Writes a ledger row for the decoded architecture after each epoch, and exports the net of the last one.

    The row is on disk before that epoch's checkpoint is written (``CheckpointHook`` by epoch), so a resumed training
    finds the rows of all epochs that it does not repeat. For an epoch that already has a row it compares and writes
    none; for that, trainings that draw random numbers need an ``EpochSeedHook``.

    The ``search`` section has no strategy and no evaluator. Subclasses implement :meth:`spec`, :meth:`decode`,
    :meth:`metrics` and, if found nets are exported with weights, :meth:`weights` and :meth:`meta`.
    """

    priority = 'LOW'  # before CheckpointHook

    @classmethod
    def check(cls, job: SearchJob) -> None:
        """See :meth:`SearchHook.check`.

        Raises:
            DetNASError: If the section has a strategy or an evaluator.
        """
        given = [key for key in ('strategy', 'evaluator') if getattr(job, key) is not None]
        if given:
            raise DetNASError(
                f'{cls.__name__} searches by training: remove search.{" and search.".join(given)} from the config.'
            )

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Returns the settings that determine the result, JSON-ready."""

    @abstractmethod
    def decode(self, runner: Runner) -> Architecture:
        """Returns the architecture that the model has learnt so far; must be equal on all ranks."""

    @abstractmethod
    def metrics(self, runner: Runner) -> dict[str, float]:
        """Returns metrics of the last epoch, with those of the objectives; must be equal on all ranks."""

    def weights(self, runner: Runner, arch: Architecture) -> dict[str, Any] | None:
        """Returns the state dict of the fixed net, on the CPU; None, the default, exports only its config."""
        return None

    def meta(self) -> dict[str, Any]:
        """Returns plain values about these weights for the exported checkpoint."""
        return {}

    def summary(self, arch: Architecture) -> str:
        """Returns an architecture as text for the log line of each epoch."""
        return self._job.space.describe(arch)

    def before_train(self, runner: Runner) -> None:
        """Opens the ledger.

        Raises:
            LedgerError: If it belongs to another search, or lacks rows of earlier epochs.
        """
        job = self._job
        on_rank_0(job)
        for line in job.space.notes():
            job.log(line)
        header = job.header(weights=None, settings=settings_digest(job.cfg), search=self.spec())
        self._ledger: Ledger = open_ledger(job, header, environment())
        rows = len(self._ledger.records)
        if rows < runner.epoch:
            self._ledger.close()
            raise LedgerError(
                f'{self._ledger.path} has rows of {counted(rows, "epoch")}, but the training resumes after epoch '
                f'{runner.epoch}: the checkpoint is of another folder, or checkpoints are not written by epoch. Resume '
                f'from one of epoch {rows} or earlier, or start in another folder (--work-dir).'
            )

    def after_train_epoch(self, runner: Runner) -> None:
        """Writes the epoch's row, or compares it with an existing one.

        Raises:
            LedgerError: If the existing row differs.
        """
        job, ledger, epoch = self._job, self._ledger, runner.epoch
        arch = self.decode(runner)
        row = make_record(job, ledger, epoch, Proposal(arch, 'training'), Evaluation(self.metrics(runner)))
        if epoch < len(ledger.records):
            there = ledger.records[epoch]
            if _lasting(there) != _lasting(row):
                raise LedgerError(
                    f'{ledger.path}: the row of epoch {epoch} is {there.arch} {there.metrics}, but this training got '
                    f'{row.arch} {row.metrics}. Settings, data or code have changed: choose another --work-dir; or '
                    f"it needs dict(type='detnas_mm.EpochSeedHook') in custom_hooks for its random numbers."
                )
        else:
            ledger.append(row)
        values = [f'{name} {value:.4f}' for name, value in row.metrics.items()]
        values += [job.budget.text(row.costs)] if row.costs else []
        job.log(f'epoch {epoch + 1}/{runner.max_epochs}: {self.summary(arch)} ({", ".join(values)})')

    def after_train(self, runner: Runner) -> None:
        """Exports the net of the last epoch.

        Raises:
            DetNASError: If there was no epoch.
        """
        if not self._ledger.records:
            raise DetNASError(
                'The training had no epoch, so it has no architecture: set train_cfg.max_epochs=1 or more.'
            )
        last = self._ledger.records[-1]
        with self._ledger:
            finish(self._job, self._ledger, [last], weights=lambda arch: self.weights(runner, arch), meta=self.meta())

    @property
    def _job(self) -> SearchJob:
        assert self.job is not None  # set by before_run
        return self.job


def _lasting(row: Record) -> dict[str, Any]:
    """Returns the fields of a row that are the same in every run, without its index."""
    return {key: value for key, value in row.to_json().items() if key not in (*VOLATILE, 'index')}
