"""What the loop of every strategy needs: rows, replaying, progress and log lines."""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from detnas_mm.errors import DetNASError
from detnas_mm.search.ledger import Ledger
from detnas_mm.search.ledger_file import LedgerError
from detnas_mm.search.record import Evaluation, Proposal, Record

if TYPE_CHECKING:
    from detnas_mm.search.job import SearchJob


def announce(job: SearchJob, ledger: Ledger, done: str) -> None:
    """Logs what the space says of itself, constraints that exclude nothing, and from where a search resumes.

    Args:
        job: The search.
        ledger: Its ledger.
        done: What the ledger holds already, such as ``'20 candidates'``; empty for a new search.
    """
    for line in job.space.notes():
        job.log(line)
    for constraint in job.budget.idle_constraints():
        job.log(f'The constraint {constraint} excludes nothing. {job.budget.range_text()}')
    if done:
        job.log(f'Resuming from {ledger.path}: it holds {done}.')


def progress(job: SearchJob, total: int, done: int = 0) -> tqdm:
    """A bar over candidates, drawn on rank 0."""
    return tqdm(
        total=total, initial=done, unit='net', disable=not job.show_progress, dynamic_ncols=True, desc='search'
    )  # fmt: skip


def make_record(job: SearchJob, ledger: Ledger, generation: int, proposal: Proposal, evaluation: Evaluation) -> Record:
    """The next row of a ledger, made of what an evaluator found out.

    Raises:
        ValueError: If the evaluator does not give an objective's metric.
    """
    status, reason = evaluation.status, evaluation.failure or evaluation.dropped
    costs = job.budget.costs(proposal.arch)
    for objective in job.objectives:
        if reason is None and objective.name not in evaluation.metrics and objective.name not in costs:
            raise DetNASError(
                f'The objective {objective.name!r} is no metric that the evaluator gives on these images; it gives '
                f'{sorted(evaluation.metrics)}, and no cost, of which there are {sorted(costs)}. Change '
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
    """What a JSON line can hold of metrics and details: values by name are left out, those in lists become None."""
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items() if not _infinite(part)}
    if isinstance(value, (list, tuple)):
        return [None if _infinite(part) else _finite(part) for part in value]
    return value


def _infinite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def check_replayed(ledger: Ledger, known: Sequence[Record], proposals: Sequence[Proposal], generation: int) -> None:
    """Refuses rows that are not those that the search asks for.

    Args:
        ledger: The ledger.
        known: Its rows of this generation.
        proposals: What is asked for.
        generation: Its number.

    Raises:
        LedgerError: If one differs.
    """
    if [(r.id, r.generation) for r in known] != [(p.arch.id, generation) for p in proposals[: len(known)]]:
        raise LedgerError(
            f'{ledger.path}: its rows are not the ones that this search asks for in generation {generation}. '
            f'The code that draws candidates has changed since, or a file of costs that constrain them; finish that '
            f'search with what began it, or choose another --work-dir.'
        )


def refuse_if_all_failed(ledger: Ledger) -> None:
    """Ends a search none of whose candidates could be evaluated.

    Raises:
        DetNASError: Names the reasons.
    """
    if any(record.ok for record in ledger.records):
        return
    reasons = sorted({record.reason or '' for record in ledger.records})
    again = f', or resume with --retry-failed, which takes the rows of {ledger.path} back'
    raise DetNASError(
        f'All {len(ledger.records)} candidates failed: {"; ".join(reasons[:3])}. Remove the cause and search in '
        f'another folder (--work-dir){again if ledger.path is not None else ""}.'
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
    """One line about a generation.

    Args:
        job: The search.
        generation: Its number, from 0.
        nets: How many candidates there were, and what became of them.
        values: The objective's values among them.
        best: The best row so far, if there is one.
        acceptance: Share of the candidates drawn that were new and feasible.
        remarks: What else there is to say; empty ones are left out.
    """
    parts = [nets, values]
    if best is not None:
        costs = job.budget.text(best.costs)
        parts.append(f'best so far {job.objectives[0].value(best):.4f} {best.arch}{f" ({costs})" if costs else ""}')
    parts += [*remarks, f'acceptance rate {acceptance:.1%} (drawn candidates that are new and feasible)']
    return f'generation {generation + 1}/{job.generations}: {"; ".join(part for part in parts if part)}'
