"""Evolutionary search for several objectives (Pareto front)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from detnas_mm.errors import DetNASError
from detnas_mm.registry import STRATEGIES
from detnas_mm.search.pareto import crowding_distances, front_ranks
from detnas_mm.search.record import Record
from detnas_mm.search.strategies.evolution import EvolutionStrategy

if TYPE_CHECKING:
    from detnas_mm.search.job import SearchJob


@STRATEGIES.register_module()
class ParetoStrategy(EvolutionStrategy):
    """The evolution of DetNAS with parents selected by several objectives, such as mAP and latency.

    Parents are the rows of all generations with the lowest front rank; within a front, those with the largest crowding
    distance (Deb et al., NSGA-II, 2002, sections III-A and III-B). Everything else, including the arguments, is as in
    :class:`EvolutionStrategy`.

    Raises:
        ValueError: On :meth:`setup`, if there are fewer than two objectives.
    """

    def check_objectives(self, job: SearchJob) -> None:
        """See :meth:`EvolutionStrategy.check_objectives`."""
        if len(job.objectives) < 2:
            raise DetNASError(
                f'ParetoStrategy needs two objectives or more, such as coco/bbox_mAP and macs; got '
                f'{[o.name for o in job.objectives]}. For one objective use EvolutionStrategy.'
            )

    def choose_parents(self) -> list[Record]:
        """Returns the best rows of all generations, front by front."""
        ok = self.objectives[0].best_first(self.records)
        gains = np.array([[objective.gain(record) for objective in self.objectives] for record in ok])
        gains = gains.reshape(len(ok), len(self.objectives))
        ranks = front_ranks(gains)
        chosen: list[Record] = []
        for rank in range(int(ranks.max(initial=-1)) + 1):
            front = np.flatnonzero(ranks == rank)
            roomy = front[np.argsort(-crowding_distances(gains[front]), kind='stable')]
            chosen += [ok[i] for i in roomy[: self.parents - len(chosen)]]
            if len(chosen) == self.parents:
                break
        return chosen
