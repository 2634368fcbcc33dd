"""Trains a generation from rung to rung of successive halving."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from detnas_mm.evaluators.training.folder import END, Candidate, drop_training, read_progress, standing
from detnas_mm.evaluators.training.halving import Halving
from detnas_mm.evaluators.training.rows import evaluation_of
from detnas_mm.evaluators.training.trainings import Trainings
from detnas_mm.search import Evaluation
from detnas_mm.spaces import Architecture
from detnas_mm.workers import Outcome

if TYPE_CHECKING:
    from detnas_mm.search import SearchJob


def halved(
    job: SearchJob,
    halving: Halving,
    trainings: Trainings,
    candidates: dict[Architecture, Candidate],
    unit: str,
    renewed: Callable[[Architecture], Candidate],
) -> dict[Architecture, Evaluation]:
    """Trains a generation up to the last rung.

    A candidate that was dropped at an earlier start may be promoted now, since rows were taken back. It has no
    checkpoint any more. If the weights of its parent are gone, too, it is renewed, and the rungs begin again with it.

    Args:
        job: The search.
        halving: The rungs, and the share that is promoted at each.
        trainings: Runs the trainings.
        candidates: All candidates of the generation; those that are renewed are replaced.
        unit: ``'epochs'`` or ``'iterations'``, see :class:`.Schedule`.
        renewed: Returns a candidate with a parent whose weights are there, or with its own initial weights.

    Returns:
        Evaluations of the candidates that failed or were dropped; all others are to be trained to the end.
    """
    out: dict[Architecture, Evaluation] = {}
    for rung in halving.at:
        running = [arch for arch in candidates if arch not in out]
        found = dict(_at_rung(trainings, {arch: candidates[arch] for arch in running}, rung, unit))
        ok = [arch for arch in running if found[arch].status == 'ok']
        promoted = halving.promoted(ok, [found[arch].metrics for arch in ok], job.objectives, job.budget)
        stuck = [arch for arch in ok if arch.id in promoted and not _goes_on(candidates[arch], rung)]
        if stuck:
            candidates |= {arch: renewed(arch) for arch in stuck}
            return halved(job, halving, trainings, candidates, unit, renewed)
        for arch in running:
            if found[arch].status != 'ok':
                out[arch] = found[arch]
            elif arch.id not in promoted:
                drop_training(candidates[arch].folder)
                reason = f'not among the best {len(promoted)} of {len(ok)} after {rung} {unit}'
                details = found[arch].details | dict(partial=found[arch].metrics)
                out[arch] = replace(found[arch], metrics={}, dropped=reason, details=details)
    return out


def _goes_on(candidate: Candidate, rung: int) -> bool:
    """Returns whether a candidate can be trained beyond a rung, or was, without the weights of its parent."""
    if candidate.inherit is None or candidate.inherit.is_file():
        return True
    if read_progress(candidate.folder).get('work') == candidate.work:  # from its checkpoint
        return True
    until = str((standing(candidate.folder, candidate.work) or {}).get('key', '')).rpartition('-')[2]
    return until == END or int(until or 0) > rung


def _at_rung(
    trainings: Trainings, candidates: Mapping[Architecture, Candidate], rung: int, unit: str
) -> Iterator[tuple[Architecture, Evaluation]]:
    """Yields the evaluation of each candidate at a rung; one that was trained further since is not trained again."""
    missing: list[Architecture] = []
    for arch, candidate in candidates.items():
        result = standing(candidate.folder, candidate.work) or {}
        there = result.get('rungs', {}).get(str(rung))
        if there is not None:
            at_rung = result | dict(status='ok', metrics=there) | {unit: rung}
            yield arch, evaluation_of(candidate, Outcome(at_rung), rung)
        elif result.get('status') == 'failed':
            yield arch, evaluation_of(candidate, Outcome(result), rung)
        else:
            missing.append(arch)
    outcomes = trainings.run([candidates[arch] for arch in missing], rung)
    for arch, outcome in zip(missing, outcomes, strict=True):
        yield arch, evaluation_of(candidates[arch], outcome, rung)
