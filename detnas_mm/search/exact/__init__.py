"""Exact search over structures: the best one within additive budgets, and a proof of how good it is."""

from detnas_mm.search.exact.program import BlockProgram
from detnas_mm.search.exact.solver import Certificate, solve

__all__ = ['BlockProgram', 'Certificate', 'solve']
