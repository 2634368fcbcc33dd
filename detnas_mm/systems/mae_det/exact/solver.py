"""Lagrangian relaxation of budgets: a proven upper bound, and the best structure found."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detnas_mm.errors import DetNASError
from detnas_mm.search.budget import UnmeetableConstraint
from detnas_mm.search.text import number_text
from detnas_mm.systems.mae_det.blocks import BlockSum
from detnas_mm.systems.mae_det.exact.program import BlockProgram
from detnas_mm.systems.mae_det.space import MAEDetSpace

#: Bounds on rounding errors of a sum of some hundred logarithms, relative, and of prices * costs.
_ROUNDING = 1e-11
#: Largest number in a linear program: scipy's solver fails from 1e15 on.
_LARGEST = 1e12


@dataclass(frozen=True)
class Certificate:
    """Certificate: the best structure found, and an upper bound on all structures within the budgets.

    Attributes:
        genes: The structure, as a row of genes.
        value: Its score.
        bound: Upper bound on the score of every feasible structure.
        prices: Lagrange multipliers of the bound, as score per whole budget.
        iterations: Dynamic programs solved.
        seconds: Time taken.
    """

    genes: np.ndarray
    value: float
    bound: float
    prices: dict[str, float]
    iterations: int
    seconds: float

    @property
    def gap(self) -> float:
        """Relative optimality gap: how much better another structure could be at most."""
        return (self.bound - self.value) / abs(self.value) if self.value else math.inf


def solve(
    space: MAEDetSpace,
    score: BlockSum,
    budgets: dict[str, tuple[BlockSum, float]],
    gap: float = 1e-5,
    max_iterations: int = 60,
    log: Callable[[str], None] | None = None,
) -> Certificate:
    """Maximises a score within budgets.

    For any prices of at least 0, the best value of score + prices * (1 - costs / budgets) over *all* structures of the
    space, which dynamic programming finds, is an upper bound on the score of every structure within the budgets (weak
    duality). Cutting planes minimise the bound over the prices. Budgets that count bottlenecks, such as layers, need no
    price: the program enforces them. The best structure is found by a local search, of one or two changes, from the
    structures that the programs return.

    Args:
        space: The space.
        score: The score; see :class:`BlockProgram` for the forms that it and costs may have.
        budgets: Costs and their limits, by name.
        gap: Stops at this relative gap between the bound and the best value.
        max_iterations: Largest number of dynamic programs.
        log: Called with a line whenever the bound or the best value has changed.

    Raises:
        UnmeetableConstraint: If no structure is within the budgets.
        ValueError: If a number is invalid, or the score or a cost does not have such a form.
    """
    if not 0 <= gap < 1 or max_iterations < 1:
        raise DetNASError(f'gap must be in [0, 1) and max_iterations at least 1; got {gap} and {max_iterations}.')
    start = time.perf_counter()
    smallest = space.encode([space.smallest()])
    priced, max_depth = _split(space, budgets, smallest)
    names = list(priced)
    limits = np.array([limit for _, limit in priced.values()], dtype=float)
    program = BlockProgram(space, score, [cost for cost, _ in priced.values()], max_depth)
    costs = [cost for cost, _ in budgets.values()]
    ceilings = [limit for _, limit in budgets.values()]
    hill = _Hill(space, score, costs, ceilings)
    hill.climb(smallest)
    shown = (math.inf, math.inf)
    bound, best_prices = math.inf, np.zeros(len(names))
    cuts: list[tuple[np.ndarray, float]] = []
    prices, top = np.zeros(len(names)), np.zeros(len(names))
    for iteration in range(1, max_iterations + 1):
        value, genes = program.solve((prices / limits).tolist())
        value += float(prices.sum())
        if value < bound:
            bound, best_prices = value, prices
        used = np.array([cost.totals(genes[None])[0] for cost, _ in priced.values()]) / limits
        cuts.append((1 - used, float(score.totals(genes[None])[0])))
        hill.climb(genes[None])
        if log and (bound, hill.value) != shown:
            shown = bound, hill.value
            log(f'program {iteration}: bound {bound:.4f}, best {hill.value:.4f}, gap {bound / hill.value - 1:.4%}')
        if bound - hill.value <= gap * abs(hill.value) or not names or (used <= 1).all() and not prices.any():
            break
        if iteration == 1:  # higher prices cannot lower the bound below the smallest structure's score
            slack = 1 - np.array([cost.totals(smallest)[0] for cost, _ in priced.values()]) / limits
            top = (bound - float(score.totals(smallest)[0])) / np.maximum(slack, 1e-9)
            top = np.minimum(top, _LARGEST / np.maximum(used, 1.0))  # the slack may be 0: only the smallest fits
        found = _next_prices(cuts, top)
        if found is None:
            break
        lowest, prices = found
        if bound - lowest <= 1e-9 * abs(bound):
            break
    rounding = _ROUNDING * (abs(bound) + float(best_prices.sum()))
    return Certificate(
        hill.genes, hill.value, max(bound + rounding, hill.value),
        dict(zip(names, best_prices.tolist(), strict=True)), iteration, time.perf_counter() - start,
    )  # fmt: skip


def _split(
    space: MAEDetSpace, budgets: dict[str, tuple[BlockSum, float]], smallest: np.ndarray
) -> tuple[dict[str, tuple[BlockSum, float]], int | None]:
    """Returns the budgets that need a price, and the largest sum of depths that the others allow."""
    priced: dict[str, tuple[BlockSum, float]] = {}
    max_depth: int | None = None
    least = int(smallest[0, 6::5].sum())
    for name, (cost, limit) in budgets.items():
        lowest = cost.totals(smallest)[0]
        if lowest > limit:
            raise UnmeetableConstraint(
                f'No structure of this space meets {name} ≤ {number_text(limit)}: the smallest has '
                f'{number_text(lowest)} (acceptance rate 0). Raise the limit, or widen the space.'
            )
        if cost.per_bottleneck is None:
            priced[name] = (cost, limit)
        else:
            room = least + math.floor((limit - lowest) / cost.per_bottleneck)
            max_depth = room if max_depth is None else min(max_depth, room)
    return priced, max_depth


def _next_prices(cuts: Sequence[tuple[np.ndarray, float]], top: np.ndarray) -> tuple[float, np.ndarray] | None:
    """Minimises the maximum of the cutting planes value + slope * prices over prices within top.

    Returns (minimum, prices), or None if the solver fails; bounds found before stay valid.
    """
    from scipy.optimize import linprog

    count = len(top)
    slopes = np.array([slope for slope, _ in cuts])
    heights = np.array([height for _, height in cuts])
    # Divide prices by their upper limits, so that all variables have one order of magnitude.
    table = np.concatenate([slopes * top, -np.ones((len(cuts), 1))], axis=1)
    found: Any = linprog([*[0.0] * count, 1.0], A_ub=table, b_ub=-heights, bounds=[*[(0.0, 1.0)] * count, (None, None)])
    if found.x is None:
        return None
    return float(found.x[-1]), np.maximum(found.x[:-1], 0) * top


class _Hill:
    """Local search from structures: keeps the best feasible one, tries all changes of one and of two genes."""

    def __init__(self, space: MAEDetSpace, score: BlockSum, costs: Sequence[BlockSum], limits: Sequence[float]) -> None:
        self.space, self.score, self.costs, self.limits = space, score, costs, limits
        self.genes = np.empty(0)
        self.value = -math.inf
        self._seen: set[bytes] = set()
        self._moves = self._make_moves()

    def _make_moves(self) -> np.ndarray:
        """Returns differences of genes, of shape (moves, genes)."""
        spec, blocks = self.space.spec(), self.space.num_blocks
        single: list[tuple[int, int]] = []
        widths = [0, *range(3, 3 + 5 * blocks, 5)]
        for columns, step in ((widths, spec['width_step']), (range(7, 3 + 5 * blocks, 5), spec['bottleneck_step'])):
            single += [(c, sign * n * step) for c in columns for n in (1, 2, 3, 4, 6, 8) for sign in (-1, 1)]
        kernels = {b - a for a in spec['kernels'] for b in spec['kernels'] if a != b}
        single += [(c, change) for c in range(4, 3 + 5 * blocks, 5) for change in sorted(kernels)]
        single += [(c, change) for c in range(6, 3 + 5 * blocks, 5) for change in (-1, 1)]
        moves = np.zeros((len(single), 3 + 5 * blocks), dtype=np.int64)
        for row, (column, change) in enumerate(single):
            moves[row, column] = change
        one, other = np.triu_indices(len(moves), 1)
        return np.concatenate([moves, moves[one] + moves[other]])

    def climb(self, codes: np.ndarray) -> None:
        """Moves from a structure, feasible or not, to its best neighbour as long as that improves."""
        current = -math.inf
        if self._allowed(codes)[0]:
            current = float(self.score.totals(codes)[0])
            self._keep(codes[0], current)
        while codes.tobytes() not in self._seen:
            self._seen.add(codes.tobytes())
            around = codes + self._moves
            around = around[self.space.contains(around)]
            around = around[self._allowed(around)]
            if not len(around):
                return
            values = self.score.totals(around)
            best = int(np.argmax(values))
            if values[best] <= current:
                return
            codes, current = around[best : best + 1], float(values[best])
            self._keep(codes[0], current)

    def _keep(self, genes: np.ndarray, value: float) -> None:
        if value > self.value:
            self.genes, self.value = genes, value

    def _allowed(self, codes: np.ndarray) -> np.ndarray:
        good = np.ones(len(codes), dtype=bool)
        for cost, limit in zip(self.costs, self.limits, strict=True):
            good &= cost.totals(codes) <= limit
        return good
