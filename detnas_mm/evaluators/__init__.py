"""How good a candidate is."""

from detnas_mm.evaluators.base import Evaluator
from detnas_mm.evaluators.one_shot.evaluator import OneShotEvaluator
from detnas_mm.evaluators.tabular import TabularEvaluator

__all__ = ['Evaluator', 'OneShotEvaluator', 'TabularEvaluator']
