"""Trains a generation from rung to rung of successive halving."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from detnas_mm.evaluators.training.folder import Candidate, drop_training, standing
from detnas_mm.evaluators.training.halving import Halving
from detnas_mm.evaluators.training.rows import evaluation_of
from detnas_mm.evaluators.training.trainings import Trainings
from detnas_mm.search import Evaluation
from detnas_mm.spaces import Architecture
from detnas_mm.workers import Outcome

if TYPE_CHECKING:
    from detnas_mm.search import SearchJob


def halved(
    job: SearchJob, halving: Halving, trainings: Trainings, candidates: Mapping[Architecture, Candidate], unit: str
) -> dict[Architecture, Evaluation]:
    """Trains a generation up to the last rung.

    Args:
        job: The search.
        halving: The rungs, and the share that is promoted at each.
        trainings: Runs the trainings.
        candidates: All candidates of the generation.
        unit: ``'epochs'`` or ``'iterations'``, see :class:`.Schedule`.

    Returns:
        Evaluations of the candidates that failed or were dropped; all others are to be trained to the end.
    """
    out: dict[Architecture, Evaluation] = {}
    for rung in halving.at:
        running = [arch for arch in candidates if arch not in out]
        found = dict(_at_rung(trainings, {arch: candidates[arch] for arch in running}, rung, unit))
        ok = [arch for arch in running if found[arch].status == 'ok']
        promoted = halving.promoted(ok, [found[arch].metrics for arch in ok], job.objectives, job.budget)
        for arch in running:
            if found[arch].status != 'ok':
                out[arch] = found[arch]
            elif arch.id not in promoted:
                drop_training(candidates[arch].folder)
                reason = f'not among the best {len(promoted)} of {len(ok)} after {rung} {unit}'
                details = found[arch].details | dict(partial=found[arch].metrics)
                out[arch] = replace(found[arch], metrics={}, dropped=reason, details=details)
    return out


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
