"""Evaluates candidates in order: passes over those that have failed, and evaluates lost ones again."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING

from detnas_mm.errors import DetNASError
from detnas_mm.search.evaluator import Evaluator
from detnas_mm.search.record import Evaluation
from detnas_mm.search.text import counted
from detnas_mm.spaces import Architecture

if TYPE_CHECKING:
    from detnas_mm.search.job import SearchJob


def evaluations_in_order(
    evaluator: Evaluator, archs: list[Architecture], failed: Mapping[Architecture, str], job: SearchJob
) -> Generator[Evaluation, None, None]:
    """Yields the evaluation of each candidate, in order; those that have failed already are not evaluated.

    Args:
        evaluator: The evaluator.
        archs: The candidates.
        failed: Reasons of failures.
        job: The search.
    """
    rest = [arch for arch in archs if arch not in failed]
    with closing(_with_retries(evaluator, rest, job)) as evaluations:
        for arch in archs:
            yield Evaluation(failure=failed[arch]) if arch in failed else next(evaluations)
        yield from evaluations  # there are none, and the evaluator comes to its end


def _with_retries(evaluator: Evaluator, archs: list[Architecture], job: SearchJob) -> Generator[Evaluation, None, None]:
    """Evaluates candidates; those whose machine was lost are evaluated again after the others.

    Yields:
        Evaluations in the order of the candidates.

    Raises:
        DetNASError: If one is lost more often than the evaluator's ``retries``, and the job has no ``fail_lost``;
            earlier rows are kept.
    """
    found: dict[int, Evaluation] = {}
    missing, given = list(range(len(archs))), 0
    if not archs:
        return
    for attempt in range(1, evaluator.retries + 2):
        lost: dict[int, str] = {}
        for place, evaluation in zip(missing, evaluator.evaluate([archs[i] for i in missing]), strict=True):
            if evaluation.lost is not None:
                lost[place] = evaluation.lost
                continue
            found[place] = evaluation
            while given in found:
                yield found.pop(given)
                given += 1
        if not lost:
            return
        missing = list(lost)
        name, reason = job.space.describe(archs[missing[0]]), lost[missing[0]]
        job.log(
            f'Lost at attempt {attempt} of {evaluator.retries + 1}: {counted(len(lost), "candidate")}, such as {name} '
            f'({reason}).'
        )
    if not job.fail_lost:
        again = f': {job.command()}; or, to record it as failed: {job.command("--fail-lost")}' if job.command() else ''
        raise DetNASError(
            f'{name} was lost {evaluator.retries + 1} times: {reason}. Earlier rows are kept. Check the machines, then '
            f'resume with the same command{again}'
        )
    for place, why in lost.items():
        found[place] = Evaluation(failure=f'lost {evaluator.retries + 1} times: {why}')
    while given in found:
        yield found.pop(given)
        given += 1
