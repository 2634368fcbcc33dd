"""Conformance suites for new spaces, costs, strategies and evaluators; run them before searching with one."""

from detnas_mm.testing.costs import check_cost_model
from detnas_mm.testing.evaluators import check_evaluator
from detnas_mm.testing.populations import check_population_strategy
from detnas_mm.testing.spaces import check_search_space
from detnas_mm.testing.strategies import check_runs, check_strategy, toy_job
from detnas_mm.testing.toy import ToyCost, ToyEvaluator, ToySpace

__all__ = [
    'ToyCost',
    'ToyEvaluator',
    'ToySpace',
    'check_cost_model',
    'check_evaluator',
    'check_population_strategy',
    'check_runs',
    'check_search_space',
    'check_strategy',
    'toy_job',
]
