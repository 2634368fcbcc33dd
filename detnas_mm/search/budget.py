"""Constraints of a search, and the budget of its costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from detnas_mm.checks import real
from detnas_mm.errors import DetNASError
from detnas_mm.search.record import Record
from detnas_mm.search.text import cost_text, counted, number_text
from detnas_mm.spaces import Architecture, SearchSpace

if TYPE_CHECKING:
    from detnas_mm.search.job import SearchJob


class UnmeetableConstraint(DetNASError):
    """Raised if no candidate of the space meets the constraints."""


@dataclass(frozen=True)
class Constraint:
    """Bounds on a cost, both inclusive.

    Args:
        cost: Name of a cost model, such as ``'macs'``.
        low: Smallest allowed value.
        high: Largest allowed value.

    Raises:
        ValueError: If there is no bound, or the lower one exceeds the upper one.
    """

    cost: str
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        for bound in (self.low, self.high):
            real(f'A bound of the constraint on {self.cost!r}', bound)
        if not self.low <= self.high:
            raise DetNASError(
                f'The constraint on {self.cost!r} has low={self.low} above high={self.high}: swap or correct them.'
            )
        if math.isinf(self.low) and math.isinf(self.high):
            raise DetNASError(f'The constraint on {self.cost!r} has no bound: set low=…, high=… or both.')

    def spec(self) -> dict[str, Any]:
        """Returns the bounds, JSON-ready; None for a missing bound."""
        low, high = (bound if math.isfinite(bound) else None for bound in (self.low, self.high))
        return dict(cost=self.cost, low=low, high=high)

    def __str__(self) -> str:
        def exact(bound: float) -> str:  # two different bounds never read alike: ledgers are compared by this text
            return f'{bound:,.0f}' if float(bound).is_integer() else repr(float(bound))

        low = '' if math.isinf(self.low) else f'{exact(self.low)} ≤ '
        high = '' if math.isinf(self.high) else f' ≤ {exact(self.high)}'
        return f'{low}{self.cost}{high}'


class Budget:
    """The costs of a search and the constraints on them.

    Args:
        space: The search space.
        costs: Cost models by name; each has ``totals(codes)``, ``bounds()``, ``scope`` and ``spec()``.
        constraints: Bounds on these costs.

    Raises:
        UnmeetableConstraint: If a constraint lies outside the space's range.
        ValueError: If a constraint names an unknown cost.
    """

    def __init__(self, space: SearchSpace, costs: Mapping[str, Any], constraints: Sequence[Constraint] = ()) -> None:
        self.space = space
        self._costs = dict(costs)
        self.constraints = tuple(constraints)
        for constraint in self.constraints:
            if not isinstance(constraint.cost, str) or constraint.cost not in self._costs:
                raise DetNASError(
                    f'search.constraints names the cost {constraint.cost!r}, which the search does not have. Its '
                    f'costs: {sorted(self._costs)}; add one to search.costs, or correct the name.'
                )
        eager = {name: cost for name, cost in self._costs.items() if not cost.lazy}
        self._check_bounds([c for c in self.constraints if c.cost in eager], eager)

    def check(self) -> None:
        """Checks constraints on lazy costs as well, which opens their files.

        Raises:
            FileNotFoundError: If a file does not exist.
            UnmeetableConstraint: If a constraint lies outside the space's range.
            ValueError: If a file does not fit.
        """
        self._check_bounds(self.constraints, self._costs)

    @staticmethod
    def _check_bounds(constraints: Sequence[Constraint], costs: Mapping[str, Any]) -> None:
        bounds = {name: cost.bounds() for name, cost in costs.items()}
        for constraint in constraints:
            low, high = bounds[constraint.cost]
            if constraint.high < low or constraint.low > high:
                raise UnmeetableConstraint(
                    f'No architecture meets {constraint} (acceptance rate 0). {_range_text(costs)} Change the '
                    f'constraint.'
                )

    def without(self, names: Iterable[str]) -> Budget:
        """Returns a budget without some costs and the constraints on them."""
        kept = {name: cost for name, cost in self._costs.items() if name not in set(names)}
        return Budget(self.space, kept, [c for c in self.constraints if c.cost in kept])

    def range_text(self) -> str:
        """Returns the smallest and largest value of every cost in the space, with its scope."""
        return _range_text(self._costs)

    def idle_constraints(self) -> list[Constraint]:
        """Returns bounds that every architecture meets, as constraints; two bounds of one cost are one constraint."""
        idle = []
        for constraint in self.constraints:
            low, high = self._costs[constraint.cost].bounds()
            idle_low = constraint.low if constraint.low <= low else -math.inf
            idle_high = constraint.high if high <= constraint.high else math.inf
            if math.isfinite(idle_low) or math.isfinite(idle_high):
                idle.append(Constraint(constraint.cost, idle_low, idle_high))
        return idle

    def lower_bounds(self) -> list[Constraint]:
        """Returns the constraints whose lower bound excludes some architectures."""
        return [c for c in self.constraints if c.low > self._costs[c.cost].bounds()[0]]

    def upper_limits(self) -> list[Constraint]:
        """Returns the constraints whose upper bound excludes some architectures."""
        return [c for c in self.constraints if c.high < self._costs[c.cost].bounds()[1]]

    def setup(self, job: SearchJob) -> None:
        """Sets up all costs, see :meth:`CostModel.setup`."""
        for cost in self._costs.values():
            cost.setup(job)

    def measure(self, archs: Sequence[Architecture]) -> None:
        """Measures candidates by all costs, see :meth:`CostModel.measure`."""
        for cost in self._costs.values():
            cost.measure(archs)

    def confirm(self, records: Iterable[Record]) -> None:
        """Compares costs with ``dear=True`` with rows of an earlier run, see :meth:`CostModel.confirm`."""
        rows = list(records)
        for name, cost in self._costs.items():
            if cost.dear:
                cost.confirm({self.space.parse(row.arch): row.costs[name] for row in rows if name in row.costs})

    def failures(self, archs: Iterable[Architecture]) -> dict[Architecture, str]:
        """Returns why candidates could not be measured; those without a failure are left out."""
        out: dict[Architecture, str] = {}
        for arch in archs:
            reasons = [f'{name}: {reason}' for name, cost in self._costs.items() if (reason := cost.failure(arch))]
            if reasons:
                out[arch] = '; '.join(reasons)
        return out

    def forget(self, records: Iterable[Record]) -> None:
        """Lets costs measure failed candidates again, see :meth:`CostModel.forget`."""
        archs = [self.space.parse(record.arch) for record in records]
        for cost in self._costs.values():
            cost.forget(archs)

    def allows(self, archs: Sequence[Architecture]) -> np.ndarray:
        """Returns a boolean array of shape (candidates,): True for those that meet all constraints."""
        if not self.constraints or not len(archs):
            return np.ones(len(archs), dtype=bool)
        return self.allows_codes(self.space.encode(archs))

    def allows_codes(self, codes: np.ndarray) -> np.ndarray:
        """Computes :meth:`allows` for rows of :meth:`SearchSpace.encode`."""
        allowed = np.ones(len(codes), dtype=bool)
        for constraint in sorted(self.constraints, key=lambda one: self._costs[one.cost].dear):
            cost = self._costs[constraint.cost]
            rows = allowed.copy() if cost.dear else slice(None)
            values = cost.totals(codes[rows])
            allowed[rows] &= (constraint.low <= values) & (values <= constraint.high)
        return allowed

    @property
    def dear(self) -> bool:
        """True if checking the constraints of a candidate takes seconds."""
        return any(self._costs[constraint.cost].dear for constraint in self.constraints)

    def without_dear(self) -> Budget:
        """Returns a budget without the costs whose numbers take seconds, and without the constraints on them."""
        return self.without([name for name, cost in self._costs.items() if cost.dear])

    def excess_of_codes(self, codes: np.ndarray) -> np.ndarray:
        """Returns how far rows of :meth:`SearchSpace.encode` violate the constraints; shape (candidates,).

        0 for those that meet all; else the sum of the relative distances to the violated bounds.
        """
        excess = np.zeros(len(codes))
        for constraint in self.constraints:
            values = self._costs[constraint.cost].totals(codes)
            for bound, sign in ((constraint.low, -1), (constraint.high, 1)):
                if math.isfinite(bound):
                    excess += np.maximum(sign * (values - bound), 0) / (abs(bound) or 1)
        return excess

    def costs(self, arch: Architecture) -> dict[str, float]:
        """Returns all costs of one architecture by name, without those that could not be measured."""
        costs = self.costs_of_codes(self.space.encode([arch]))[0]
        return {name: value for name, value in costs.items() if not math.isnan(value)}

    def costs_of_codes(self, codes: np.ndarray) -> list[dict[str, float]]:
        """Computes :meth:`costs` for rows of :meth:`SearchSpace.encode`."""
        columns = {name: cost.totals(codes).tolist() for name, cost in self._costs.items()}
        return [{name: column[i] for name, column in columns.items()} for i in range(len(codes))]

    def text(self, costs: Mapping[str, float]) -> str:
        """Writes the costs of one architecture with their units: ``'MACs 5.55 M, latency 5.28 ms'``."""
        return ', '.join(
            cost_text(name, value, getattr(self._costs.get(name), 'unit', '')) for name, value in costs.items()
        )

    @property
    def models(self) -> dict[str, Any]:
        """Cost models by name."""
        return dict(self._costs)

    def cost_model(self, name: str) -> Any:
        """Returns the cost model of that name."""
        return self._costs[name]

    def spec(self) -> dict[str, Any]:
        """Returns costs and constraints, JSON-ready."""
        return dict(
            costs={name: cost.spec() for name, cost in self._costs.items()},
            constraints=[constraint.spec() for constraint in self.constraints],
        )


def _range_text(costs: Mapping[str, Any]) -> str:
    parts = []
    for name, cost in costs.items():
        low, high = cost.bounds()
        unit = f' {cost.unit}' if getattr(cost, 'unit', '') else ''
        range_of = f'from {number_text(low)} to {number_text(high)}{unit}'
        if not math.isfinite(high):
            seen = sorted(cost.seen())
            range_of = 'in a range that is not known beforehand'
            if seen:
                among = counted(len(seen), 'net')
                range_of = f'from {number_text(seen[0])} to {number_text(seen[-1])}{unit} among {among} so far'
        parts.append(f'{name} {range_of} ({cost.scope})')
    return 'This space has ' + '; '.join(parts) + '.'
