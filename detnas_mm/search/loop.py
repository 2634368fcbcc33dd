"""Shared parts of the strategies' loops: rows, replaying, progress and log lines."""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from detnas_mm.errors import DetNASError
from detnas_mm.search.ledger import Ledger
from detnas_mm.search.ledger_file import LedgerError
from detnas_mm.search.record import NO_DETECTIONS, Evaluation, Proposal, Record

if TYPE_CHECKING:
    from detnas_mm.search.job import SearchJob


def announce(job: SearchJob, ledger: Ledger, done: str) -> None:
    """Logs notes of the space, constraints that exclude nothing, and how much of the ledger is resumed.

    Args:
        job: The search.
        ledger: Its ledger.
        done: Content of the ledger, such as ``'20 candidates'``; empty for a new search.
    """
    for line in job.space.notes():
        job.log(line)
    for constraint in job.budget.idle_constraints():
        job.log(f'The constraint {constraint} excludes nothing. {job.budget.range_text()}')
    if done:
        job.log(f'Resuming from {ledger.path}: it holds {done}.')


def progress(job: SearchJob, total: int, done: int = 0) -> tqdm:
    """Returns a progress bar over candidates, drawn on rank 0."""
    return tqdm(
        total=total, initial=done, unit='net', disable=not job.show_progress, dynamic_ncols=True, desc='search'
    )  # fmt: skip


def make_record(job: SearchJob, ledger: Ledger, generation: int, proposal: Proposal, evaluation: Evaluation) -> Record:
    """Makes the next row of a ledger from an evaluation.

    Raises:
        ValueError: If the evaluator does not give an objective's metric.
    """
    status, reason = evaluation.status, evaluation.failure or evaluation.dropped
    costs = job.budget.costs(proposal.arch)
    for objective in job.objectives:
        if reason is None and objective.name not in evaluation.metrics and objective.name not in costs:
            raise DetNASError(
                f'The objective {objective.name!r} is neither a metric of the evaluator on these images, which are '
                f'{sorted(evaluation.metrics)}, nor a cost, which are {sorted(costs)}. Change '
                f'search.objectives.'
            )
        if reason is None and not math.isfinite(evaluation.metrics.get(objective.name, 0.0)):
            status, reason = 'failed', f'{objective.name} is {evaluation.metrics[objective.name]}'
    return Record(
        index=len(ledger.records),
        generation=generation,
        id=proposal.arch.id,
        arch=job.space.describe(proposal.arch),
        origin=proposal.origin,
        parents=proposal.parents,
        status=status,
        reason=reason,
        metrics=_finite(evaluation.metrics),
        costs=costs,
        time=evaluation.time,
        host=evaluation.host or socket.gethostname(),
        attempt=ledger.attempt,
        details=_finite(evaluation.details),
    )


def _finite(value: Any) -> Any:
    """Removes infinite numbers, which JSON lacks: entries of dicts are left out, those in lists become None."""
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items() if not _infinite(part)}
    if isinstance(value, (list, tuple)):
        return [None if _infinite(part) else _finite(part) for part in value]
    return value


def _infinite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def check_replayed(ledger: Ledger, known: Sequence[Record], proposals: Sequence[Proposal], generation: int) -> None:
    """Raises if rows of a ledger are not the candidates that the search proposes.

    Args:
        ledger: The ledger.
        known: Its rows of this generation.
        proposals: Candidates of this generation.
        generation: Its number.

    Raises:
        LedgerError: If one differs.
    """
    if [(r.id, r.generation) for r in known] != [(p.arch.id, generation) for p in proposals[: len(known)]]:
        raise LedgerError(
            f'{ledger.path}: its rows are not the candidates that this search proposes in generation {generation}. '
            f'The code that draws candidates, or a file of constrained costs, has changed since; finish that '
            f'search with the version and files that started it, or choose another --work-dir.'
        )


def refuse_if_all_failed(ledger: Ledger) -> None:
    """Raises if no candidate of a search could be evaluated.

    Raises:
        DetNASError: If all failed. The message gives the reasons.
    """
    if any(record.ok for record in ledger.records):
        return
    reasons = sorted({record.reason or '' for record in ledger.records})
    number = len(ledger.records)
    failed = 'The only candidate failed: ' if number == 1 else f'All {number:,} candidates failed: '
    undertrained = all(reason.startswith(NO_DETECTIONS) for reason in reasons)
    do = 'The weights are probably undertrained: train longer' if undertrained else 'Remove the cause'
    again = f', or resume with --retry-failed, which evaluates the rows of {ledger.path} again'
    raise DetNASError(
        f'{failed}{"; ".join(reasons[:3])}. {do}, then search with another --work-dir'
        f'{again if ledger.path is not None else ""}.'
    )


def generation_line(
    job: SearchJob,
    generation: int,
    nets: str,
    values: str,
    best: Record | None,
    acceptance: float,
    *remarks: str,
) -> str:
    """Returns the log line of a generation.

    Args:
        job: The search.
        generation: Its number, from 0.
        nets: Number of candidates by status, as text.
        values: Values of the objective, as text.
        best: The best row so far, if there is one.
        acceptance: Share of the candidates drawn that were new and feasible.
        remarks: Further texts; empty ones are left out.
    """
    parts = [nets, values]
    if best is not None:
        costs = job.budget.text(best.costs)
        parts.append(f'best so far {job.objectives[0].value(best):.4f} {best.arch}{f" ({costs})" if costs else ""}')
    parts += [*remarks, f'acceptance rate {acceptance:.1%} (drawn candidates that are new and feasible)']
    return f'generation {generation + 1}/{job.generations}: {"; ".join(part for part in parts if part)}'
