"""Searches that are training runs: the model learns its architecture while it trains."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from mmengine.runner import Runner

from detnas_mm.engine.hooks.search_hook import SearchHook
from detnas_mm.engine.provenance import environment, settings_digest
from detnas_mm.engine.search import finish, on_rank_0, open_ledger
from detnas_mm.errors import DetNASError
from detnas_mm.search import Evaluation, Ledger, LedgerError, Proposal, Record, SearchJob
from detnas_mm.search.loop import make_record
from detnas_mm.search.record import VOLATILE
from detnas_mm.spaces import Architecture


class TrainingSearchHook(SearchHook):
    """Writes a row an epoch of what the model would be decoded to, and exports the net of the last one.

    The row is on the disk before that epoch's checkpoint is (``CheckpointHook`` by epoch), so that a training which was
    killed and resumed finds all rows of the epochs that it does not repeat. Where it comes to an epoch whose row is
    there, it compares and writes none; trainings that draw random numbers need an ``EpochSeedHook`` for that.

    The ``search`` section has no strategy and no evaluator. Subclasses give :meth:`spec`, :meth:`decode`,
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
                f'{cls.__name__} searches by training: take search.{" and search.".join(given)} out of the config.'
            )

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """The settings that decide what is found, JSON-ready."""

    @abstractmethod
    def decode(self, runner: Runner) -> Architecture:
        """The architecture that the model has learnt so far; equal on all ranks."""

    @abstractmethod
    def metrics(self, runner: Runner) -> dict[str, float]:
        """Values of the epoch that has ended, the objectives' among them; equal on all ranks."""

    def weights(self, runner: Runner, arch: Architecture) -> dict[str, Any] | None:
        """State dict of the fixed net, on the CPU; None, the default, exports its config alone."""
        return None

    def meta(self) -> dict[str, Any]:
        """Plain values that the exported checkpoint says of these weights."""
        return {}

    def summary(self, arch: Architecture) -> str:
        """An architecture as the log shows it every epoch."""
        return self._job.space.describe(arch)

    def before_train(self, runner: Runner) -> None:
        """Opens the ledger.

        Raises:
            LedgerError: If it belongs to another search, or lacks rows of epochs that are not repeated.
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
                f'{self._ledger.path} has rows of {rows} epochs, and the training resumes after {runner.epoch}: the '
                f'checkpoint is of another folder, or checkpoints are not written by epoch. Resume from a checkpoint '
                f'of epoch {rows} or earlier, or start in another folder (--work-dir).'
            )

    def after_train_epoch(self, runner: Runner) -> None:
        """Writes the epoch's row, or compares it.

        Raises:
            LedgerError: If the row that is there is another one.
        """
        job, ledger, epoch = self._job, self._ledger, runner.epoch
        arch = self.decode(runner)
        row = make_record(job, ledger, epoch, Proposal(arch, 'training'), Evaluation(self.metrics(runner)))
        if epoch < len(ledger.records):
            there = ledger.records[epoch]
            if _lasting(there) != _lasting(row):
                raise LedgerError(
                    f'{ledger.path}: the row of epoch {epoch} is {there.arch} {there.metrics}, and this training came '
                    f'to {row.arch} {row.metrics}. Settings, data or code have changed: choose another --work-dir; or '
                    f"it draws random numbers without dict(type='detnas_mm.EpochSeedHook') in custom_hooks."
                )
        else:
            ledger.append(row)
        values = [f'{name} {value:.4f}' for name, value in row.metrics.items()]
        values += [job.budget.text(row.costs)] if row.costs else []
        job.log(f'epoch {epoch + 1}/{runner.max_epochs}: {self.summary(arch)} ({", ".join(values)})')

    def after_train(self, runner: Runner) -> None:
        """Exports the net of the last epoch.

        Raises:
            DetNASError: If there was none.
        """
        if not self._ledger.records:
            raise DetNASError('The training had no epoch, so nothing was learnt: give train_cfg.max_epochs=1 or more.')
        last = self._ledger.records[-1]
        with self._ledger:
            finish(self._job, self._ledger, [last], weights=lambda arch: self.weights(runner, arch), meta=self.meta())

    @property
    def _job(self) -> SearchJob:
        assert self.job is not None  # before_run has seen to it
        return self.job


def _lasting(row: Record) -> dict[str, Any]:
    """What of a row is the same in every run: not its index either, which says where it would be appended."""
    return {key: value for key, value in row.to_json().items() if key not in (*VOLATILE, 'index')}
