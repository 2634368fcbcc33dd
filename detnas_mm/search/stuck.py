"""Detects a search that is stuck, and suggests what to change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from detnas_mm.search.budget import Constraint

if TYPE_CHECKING:
    from detnas_mm.search.job import SearchJob

#: Number of generations in a row after which a search counts as stuck.
PATIENCE = 3
#: Acceptance rate below which hardly any candidate is accepted.
FEW = 0.05
#: Relative width up to which a window of costs counts as narrow.
NARROW = 0.05


def stuck_line(job: SearchJob, accepted: Sequence[float], improved: Sequence[bool], resumed: bool = False) -> str:
    """Returns the log line about a stuck search, in the generation in which that starts and on resuming.

    A search is stuck while hardly any candidate meets the constraints, or while there is no new best within a narrow
    window of costs, for :data:`PATIENCE` generations in a row.

    Args:
        job: The search.
        accepted: Acceptance rate of every generation so far.
        improved: Whether each generation so far had a new best.
        resumed: True if these generations were all read from a ledger: the line is then returned as long as it applies.

    Returns:
        One line; empty if there is nothing to log.
    """
    lower, upper = job.budget.lower_bounds(), job.budget.upper_limits()
    if not lower and not upper:
        return ''
    reasons = []
    holds = _lasts if resumed else _begins
    if holds([share < FEW for share in accepted]):
        shares = ', '.join(f'{share:.1%}' for share in accepted[-PATIENCE:])
        reasons.append(f'in {PATIENCE} generations hardly any of the candidates drawn was accepted ({shares})')
    if holds([not new for new in improved]) and any(_is_narrow(job, c) for c in lower):
        reasons.append(f'{PATIENCE} generations brought no new best')
    if not reasons:
        return ''
    constraints = ' and '.join(map(str, job.budget.constraints))
    return f'The search is stuck within {constraints}: {" and ".join(reasons)}. {_advice(job, lower, upper)}'


def _begins(signs: Sequence[bool]) -> bool:
    """Returns True if a sign has been there for exactly :data:`PATIENCE` generations."""
    return _lasts(signs) and not (len(signs) > PATIENCE and signs[-PATIENCE - 1])


def _lasts(signs: Sequence[bool]) -> bool:
    return len(signs) >= PATIENCE and all(signs[-PATIENCE:])


def _is_narrow(job: SearchJob, constraint: Constraint) -> bool:
    high = min(constraint.high, job.budget.cost_model(constraint.cost).bounds()[1])
    return math.isfinite(high) and high - constraint.low <= NARROW * abs(high)


def _advice(job: SearchJob, lower: Sequence[Constraint], upper: Sequence[Constraint]) -> str:
    costs = ' and '.join(dict.fromkeys(constraint.cost for constraint in lower or upper))
    if lower:
        advice = [f'drop the lower bound of {costs} in search.constraints, or take a wider window']
    else:
        advice = [f'raise the upper limit of {costs} in search.constraints']
    if job.space.exact_strategy:
        limits = ', which takes upper limits alone,' if lower else ''
        strategy = f'search.strategy=dict(type={job.space.exact_strategy!r}, …)'
        advice.append(f'let exact search{limits} find the best ({strategy})')
    advice.append('give it more generations (search.budget.generations)')
    return f'What helps: {"; ".join(advice)}.'
