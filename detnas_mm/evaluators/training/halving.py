"""Successive halving within a generation (Jamieson and Talwalkar, 2016)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detnas_mm.checks import keyed, listed, real, whole
from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.training.schedule import Schedule
from detnas_mm.search import Budget, Objective
from detnas_mm.search.pareto import crowding_distances, front_ranks
from detnas_mm.spaces import Architecture

_EXAMPLE = 'dict(at=[3, 6], keep=0.5)'


class Halving:
    """Pauses the trainings of a generation at rungs, and resumes the best share of them.

    Args:
        at: Rungs: epochs of the schedule, or iterations for schedules by iteration, at which candidates are compared.
        keep: Share of the candidates that is resumed after each rung: more than 0 and less than 1. Defaults to 0.5.

    Raises:
        ValueError: If a number does not fit.
    """

    def __init__(self, at: Sequence[int], keep: float = 0.5) -> None:
        self.at = [whole('halving.at', point, 1) for point in listed('halving.at', at, '[3, 6]')]
        if not self.at or self.at != sorted(set(self.at)):
            raise DetNASError(f'halving.at must be increasing numbers, such as [3, 6]; got {list(at)!r}.')
        self.keep = real('halving.keep', keep)
        if not 0 < keep < 1:
            raise DetNASError(f'halving.keep must be more than 0 and less than 1; got {keep!r}.')

    @classmethod
    def from_config(cls, cfg: Any) -> Halving:
        """Reads the evaluator's ``halving``."""
        return cls(**keyed('search.evaluator.halving', cfg, ('at', 'keep'), _EXAMPLE, ('at',)))

    def spec(self) -> dict[str, Any]:
        """Returns the settings that decide which trainings are resumed, JSON-ready."""
        return dict(at=self.at, keep=self.keep)

    def check(self, schedule: Schedule) -> None:
        """Checks that a schedule can be paused at the rungs.

        Raises:
            DetNASError: If a rung is not before the schedule's end, or a paused training would not resume exactly.
        """
        if self.at[-1] >= schedule.total:
            raise DetNASError(
                f'search.evaluator.halving.at is {self.at}, but candidates train for {schedule.total} '
                f'{schedule.unit}: each number must be smaller.'
            )
        if schedule.inexact:
            raise DetNASError(
                f'search.evaluator.halving pauses trainings, and trainings of this config do not resume exactly: '
                f'{schedule.inexact}. Remove halving, or that part of the config.'
            )

    def promoted(
        self,
        archs: Sequence[Architecture],
        metrics: Sequence[Mapping[str, float]],
        objectives: Sequence[Objective],
        budget: Budget,
    ) -> set[str]:
        """Returns the ids of the candidates that are resumed.

        With one objective, these are the best. With several they are chosen by non-dominated sorting, and by crowding
        distance within the last front.

        Args:
            archs: Candidates of one generation at the same rung.
            metrics: Their metrics there.
            objectives: Objectives of the search.
            budget: Costs of the search; an objective may be a cost.
        """
        gains = np.array([_gains(arch, one, objectives, budget) for arch, one in zip(archs, metrics, strict=True)])
        usable = np.flatnonzero(np.isfinite(gains).all(axis=1)) if len(gains) else np.zeros(0, dtype=int)
        ranks = front_ranks(gains[usable])
        room = np.zeros(len(usable))
        for rank in np.unique(ranks) if len(objectives) > 1 else ():
            room[ranks == rank] = crowding_distances(gains[usable][ranks == rank])
        usable_archs = [archs[place] for place in usable.tolist()]
        order = sorted(
            range(len(usable_archs)),
            key=lambda i: (ranks[i], -room[i], *(-gains[usable[i]]), usable_archs[i].id),
        )
        return {usable_archs[i].id for i in order[: math.ceil(self.keep * len(order))]}


def _gains(
    arch: Architecture, metrics: Mapping[str, float], objectives: Sequence[Objective], budget: Budget
) -> list[float]:
    values = budget.costs(arch) | dict(metrics)
    lacking = [objective.name for objective in objectives if objective.name not in values]
    if lacking:
        raise DetNASError(
            f'The objective {lacking[0]!r} is neither a cost nor a metric of val_evaluator, which returns '
            f'{sorted(metrics)}. Change search.objectives.'
        )
    return [
        values[objective.name] if objective.direction == 'maximize' else -values[objective.name]
        for objective in objectives
    ]
