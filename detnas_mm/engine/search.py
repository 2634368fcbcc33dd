"""Runs a parsed search to its end, for hooks and tools."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.device import get_device
from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.registry import DefaultScope
from torch import nn

from detnas_mm.checkpoints import load_checkpoint_file
from detnas_mm.cli import read_file
from detnas_mm.engine.export import Exporter, Weights, export_best, row_meta
from detnas_mm.engine.provenance import environment, model_digest, weights_digest
from detnas_mm.errors import DetNASError, MissingFileError
from detnas_mm.files import write_json, write_text
from detnas_mm.models import build_model, checked_weights
from detnas_mm.search import (
    CONFIG,
    LEDGER,
    Evaluator,
    Ledger,
    LedgerError,
    Record,
    SearchJob,
    counted,
    pareto_front,
    read_ledger,
    thinned,
)
from detnas_mm.terminal import doing
from detnas_mm.visualization import plot_population, plot_progress


def open_ledger(job: SearchJob, header: Mapping[str, Any], environment: Mapping[str, Any]) -> Ledger:
    """Opens the ledger: a file on rank 0, a copy of its rows in memory on other ranks; also writes the config.

    Args:
        job: The search.
        header: All that makes rows comparable.
        environment: All that may change between starts; never compared.

    Raises:
        LedgerError: On all ranks, if rank 0 cannot open it.
    """
    assert job.work_dir is not None
    box: list[Any] = [None, None]
    ledger = None
    if is_main_process():
        try:
            ledger = Ledger(job.work_dir / LEDGER, header, environment)
            box = [(ledger.records, ledger.snapshots), None]
        except DetNASError as error:
            box = [None, str(error)]
    broadcast_object_list(box)
    if box[1]:
        raise LedgerError(box[1])
    if ledger is None:
        return Ledger(None, header, None, *box[0])
    write_text(job.work_dir / CONFIG, job.text)  # early, so that rows can be exported while the search runs
    return ledger


def on_rank_0(job: SearchJob) -> None:
    """Makes a job log and draw its progress bar on rank 0 only."""
    if not is_main_process():
        job.log = lambda text: None
    job.show_progress = is_main_process() and os.environ.get('TQDM_DISABLE') != '1'


def run_search(job: SearchJob, model: nn.Module | None = None, sampler: str | None = None) -> list[Record]:
    """Runs a prepared search to its end, and exports the best nets.

    Results are in the job's ``work_dir``: the ledger, ``best.json``, ``best/`` with configs and weights of the best
    nets (with several objectives, of the Pareto front), ``progress.png``, and artifacts of the strategy such as
    ``certificate.json``. Run again on the same folder, it resumes from the ledger.

    Args:
        job: The search, after :meth:`SearchJob.prepare`.
        model: The trained model, if the evaluator needs one.
        sampler: Description of the path sampling in the model's training, if known; recorded in the ledger.

    Returns:
        All successful records, the best in the first objective first.

    Raises:
        DetNASError: If the job has no strategy or no evaluator, or its parts do not fit.
        LedgerError: If the folder belongs to another search, or is in use.
        DetNASError: If every candidate failed.
    """
    strategy, evaluator = job.strategy, job.evaluator
    if strategy is None or evaluator is None or job.work_dir is None:
        missing = [key for key in ('strategy', 'evaluator', 'work_dir') if getattr(job, key) is None]
        raise DetNASError(
            f'The search has no {" and no ".join(missing)}: set them in the search section of the config.'
        )
    if evaluator.needs_model and model is None:
        raise DetNASError(f'{type(evaluator).__name__} needs a trained model: give its checkpoint.')
    refuse_ranks(evaluator)
    on_rank_0(job)
    job.exporter = job.exporter or Exporter(job)  # raises before the search if nets could not be written
    with doing('reading the images of the search'):
        evaluator.setup(job, model)
        header = job.header(**(dict(weights=None, settings=None) if model is None else model_digest(job.cfg, model)))
    known = environment() | ({} if sampler is None else dict(sampler=sampler))
    with open_ledger(job, header, known) as ledger:
        take_back_failed(job, ledger)
        with doing('searching'):
            best = strategy.run(evaluator, ledger)
        if len(job.objectives) == 1:
            chosen = best[: job.export.top_k]
        else:
            chosen = thinned(pareto_front(best, job.objectives), job.objectives, job.export.front_k)
        finish(job, ledger, chosen, strategy.artifacts() if is_main_process() else {})
    return best


def take_back_failed(job: SearchJob, ledger: Ledger) -> None:
    """Removes rows that failed in an earlier run from the ledger, so that they are evaluated again.

    The whole generation is removed, since it is evaluated together, and so are later ones, which depend on its rows.
    Candidates that are proposed again are not evaluated a second time if the evaluator stores their results, as those
    do that train candidates.

    Args:
        job: The search; ``retry_failed`` and the evaluator say which.
        ledger: Its ledger.
    """
    assert job.evaluator is not None
    failed = [row for row in ledger.records if row.status == 'failed']
    again = [row for row in failed if job.retry_failed or job.evaluator.outdated(row)]
    if not again or ledger.snapshots:
        if job.retry_failed:
            job.log('No row has failed: there is nothing to evaluate again.')
        return
    job.budget.forget(again)
    job.evaluator.forget(again)  # before the rows are removed: a search that is killed in between still has them
    first = next(row.index for row in ledger.records if row.generation == again[0].generation)
    count = len(ledger.records) - first
    copy = ledger.cut(first)
    job.log(
        f'Evaluated again: {counted(len(again), "row")} that failed, such as {again[0].arch} ({again[0].reason}). '
        f'Taken back: {counted(count, "row")}, those of that generation and of the ones after it'
        f'{f"; the ledger as it was: {copy}" if copy else ""}.'
    )


def finish(
    job: SearchJob,
    ledger: Ledger,
    chosen: Sequence[Record],
    artifacts: Mapping[str, Any] | None = None,
    weights: Weights | None = None,
    meta: Mapping[str, Any] | None = None,
) -> None:
    """Finishes a search: exports nets, writes artifacts, draws its progress. All ranks must call this.

    Args:
        job: The search.
        ledger: Its ledger.
        chosen: Rows to export, the best first.
        artifacts: JSON-ready content by file name.
        weights: See :meth:`Exporter.write`.
        meta: See :func:`export_best`.
    """
    with doing('exporting the best'):
        best = export_best(job, chosen, weights, meta)
    if is_main_process() and job.work_dir is not None:
        for name, content in {'best.json': best, **(artifacts or {})}.items():
            write_json(job.work_dir / name, content, indent=2)
        picture = job.work_dir / 'progress.png'
        if ledger.snapshots:
            bound = (artifacts or {}).get('certificate.json', {}).get('bound')
            plot_population(ledger.snapshots, job.objectives[0], picture, bound)
        else:
            units = {name: getattr(cost, 'unit', '') for name, cost in job.budget.models.items()}
            plot_progress(ledger.records, job.objectives, picture, units)


def export_row(work_dir: Path, wanted: str, checkpoint: str | None = None, trust: bool = False) -> dict[str, Path]:
    """Exports any successful row of a finished or running search as an ordinary config and checkpoint.

    Args:
        work_dir: Folder of the search.
        wanted: The id or the architecture of a row.
        checkpoint: The trained supernet; Defaults to the one that the search loaded.
        trust: Whether the checkpoint may contain more than tensors, see :func:`.load_checkpoint_file`.

    Returns:
        Paths in the folder's ``exported/``, see :meth:`Exporter.write`.

    Raises:
        FileNotFoundError: If the folder has no search.
        DetNASError: If there is no such row, it failed, the checkpoint is not the search's, or of another
            model, or the space cannot configure its nets.
    """
    for name in (LEDGER, CONFIG):
        if not (work_dir / name).is_file():
            raise MissingFileError(f'{work_dir} has no {name}: give the folder of a search that has started.')
    cfg = read_file(work_dir / CONFIG)
    cfg.work_dir = str(work_dir)  # the folder may have been moved, or given relative to another one
    header, records = read_ledger(work_dir / LEDGER)
    job = SearchJob.from_config(cfg)
    found = [record for record in records if wanted in (record.id, record.arch)]
    if not found or not found[0].ok:
        best = job.objectives[0].best_first(records)[:3]
        raise DetNASError(
            f'{wanted!r} is not the id or architecture of a successful row of {work_dir / LEDGER}. The best are '
            f'{", ".join(f"{record.id} ({record.arch})" for record in best)}.'
        )
    row = found[0]
    checkpoint = checkpoint or cfg.get('load_from')
    needs_model = job.evaluator is not None and job.evaluator.needs_model
    if needs_model and checkpoint is None:
        raise DetNASError(
            'The search ran right after training, so its config has no checkpoint: give the one of that training.'
        )
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model = None
        if needs_model:
            model = build_model(cfg)
            model.load_state_dict(checked_weights(model, load_checkpoint_file(checkpoint, trust), checkpoint))
            if weights_digest(model) != header['weights']:
                raise DetNASError(
                    f'{checkpoint} has other weights than the search of {work_dir / LEDGER}: give its checkpoint.'
                )
            model = model.to(get_device())
        if job.evaluator is not None:
            job.evaluator.setup(job, model)
        files = Exporter(job).write(job.space.parse(row.arch), work_dir / 'exported' / row.id, row_meta(job, row))
    if not files:
        raise DetNASError(f'{type(job.space).__name__} cannot configure its nets: its configure() returns None.')
    return files


def refuse_ranks(evaluator: Evaluator) -> None:
    """Checks that an evaluator can run in as many processes as there are.

    Raises:
        DetNASError: If there are several, and it runs in one only.
    """
    if not evaluator.all_ranks and get_world_size() > 1:
        raise DetNASError(f'{type(evaluator).__name__} runs in one process only: start the search without a launcher.')
