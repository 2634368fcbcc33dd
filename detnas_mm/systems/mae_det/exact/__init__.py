"""Exact search over structures: the best one within additive budgets, with a proven upper bound."""

from detnas_mm.systems.mae_det.exact.program import BlockProgram
from detnas_mm.systems.mae_det.exact.solver import Certificate, solve

__all__ = ['BlockProgram', 'Certificate', 'solve']
