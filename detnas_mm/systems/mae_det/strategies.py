"""Exact search strategy: proposes one candidate and proves an upper bound on all others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from detnas_mm.errors import DetNASError
from detnas_mm.registry import RANKERS, STRATEGIES, build_from
from detnas_mm.search.record import Proposal, Record
from detnas_mm.search.strategies.proving import ProvingStrategy
from detnas_mm.systems.mae_det.blocks import BlockSum
from detnas_mm.systems.mae_det.evaluators import StructureScore
from detnas_mm.systems.mae_det.exact import solve
from detnas_mm.systems.mae_det.space import MAEDetSpace
from detnas_mm.terminal import doing

if TYPE_CHECKING:
    from detnas_mm.search.job import SearchJob


@STRATEGIES.register_module()
class ExactStrategy(ProvingStrategy):
    """Proposes the best structure within additive budgets, up to a proven optimality gap.

    Score and costs must be sums over blocks, see :func:`detnas_mm.systems.mae_det.exact.solve`: supported costs are
    ``StructureFlops``, ``StructureMacs``, ``StructureParams``, ``StructureLayers`` and ``StructureLatency``.
    Constraints are upper limits.

    Args:
        score: Config of the score, such as ``dict(type='EntropyScore')``; the same as of the evaluator.
        gap: Stops at this relative gap between the bound and the best value.
        max_iterations: Largest number of dynamic programs.

    Raises:
        ValueError: If the score is not a sum over blocks, or a number is invalid.
    """

    def __init__(self, score: Any, gap: float = 1e-5, max_iterations: int = 60) -> None:
        super().__init__()
        self.score = build_from(RANKERS, score)
        if not hasattr(self.score, 'block_sum'):
            raise DetNASError(
                f'ExactStrategy: the score {type(self.score).__name__} is no sum over blocks; use EntropyScore.'
            )
        if not 0 <= gap < 1 or not isinstance(max_iterations, int) or max_iterations < 1:
            raise DetNASError(
                f'gap must be in [0, 1) and max_iterations an integer of at least 1; got {gap} and {max_iterations}.'
            )
        self.gap = gap
        self.max_iterations = max_iterations
        self._certificate: dict[str, Any] | None = None

    def spec(self) -> dict[str, Any]:
        return dict(
            type='ExactStrategy', score=self.score.spec(), gap=self.gap, max_iterations=self.max_iterations
        )  # fmt: skip

    def setup(self, job: SearchJob) -> None:
        """See :meth:`Strategy.setup`.

        Raises:
            ValueError: If exact search does not support the space, evaluator, objectives or constraints.
        """
        super().setup(job)
        space, objectives, evaluator = job.space, job.objectives, job.evaluator
        if not isinstance(space, MAEDetSpace):
            raise DetNASError(f'ExactStrategy needs a MAEDetSpace; got {type(space).__name__}.')
        self.score.take_channels(space)
        if len(objectives) != 1 or objectives[0].direction != 'maximize' or objectives[0].name != self.score.metric:
            raise DetNASError(
                f'ExactStrategy supports one objective, to maximize {self.score.metric!r}; got {objectives}.'
            )
        if not isinstance(evaluator, StructureScore) or evaluator.spec() != self.score.spec():
            given = evaluator.spec() if isinstance(evaluator, StructureScore) else type(evaluator).__name__
            raise DetNASError(
                f'ExactStrategy in search.strategy has score {self.score.spec()} and search.evaluator is {given}: a '
                f'bound proven for the one is not valid for the other. Give both the same settings.'
            )
        self._space = space
        self._sum = self.score.block_sum((space.spec()['stem_stride'], *space.strides))
        self._budgets: dict[str, tuple[BlockSum, float]] = {}
        for constraint in job.budget.constraints:
            cost = job.budget.cost_model(constraint.cost)
            if not isinstance(cost, BlockSum) or not math.isinf(constraint.low) or constraint.cost in self._budgets:
                raise DetNASError(
                    f'ExactStrategy supports one upper limit per cost, on costs that are sums over blocks; got '
                    f'{constraint} on {type(cost).__name__}.'
                )
            self._budgets[constraint.cost] = (cost, constraint.high)

    def prove(self) -> dict[str, Any]:
        """See :meth:`ProvingStrategy.prove`: value, bound, gap, multipliers of the budgets, and time."""
        if self._certificate is None:
            with doing('proving a bound'):
                found = solve(self._space, self._sum, self._budgets, self.gap, self.max_iterations, self.job.log)
            (self._best,) = self._space.decode(found.genes[None])
            self._certificate = dict(
                value=found.value, bound=found.bound, gap=found.gap, prices=found.prices,
                budgets={name: limit for name, (_, limit) in self._budgets.items()},
                iterations=found.iterations, seconds=found.seconds,
            )  # fmt: skip
        return self._certificate

    def propose(self, generation: int, rng: np.random.Generator) -> list[Proposal]:
        if generation:
            return []
        proof = self.prove()
        self.remark = (
            f'proven: nothing in this space within these budgets exceeds {proof["bound"]:.4f} (gap {proof["gap"]:.4%}; '
            f'{proof["iterations"]} programs in {proof["seconds"]:.1f} s)'
        )
        self._drawn = self._accepted = 1
        self._seen.add(self._best.id)
        return [Proposal(self._best, 'exact')]

    def tell(self, records: Sequence[Record]) -> None:
        """See :meth:`AskTell.tell`.

        Raises:
            ValueError: If the evaluator's value differs from that of ``score``.
        """
        super().tell(records)
        proven = self.prove()['value']
        for record in records:
            value = record.metrics.get(self.score.metric, math.nan)
            if not math.isclose(value, proven, rel_tol=1e-9):
                raise DetNASError(
                    f'search.evaluator gives {value}, search.strategy.score {proven}: give both the same settings.'
                )
