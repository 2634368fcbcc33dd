"""How good a candidate is."""

from detnas_mm.evaluators.base import Evaluator
from detnas_mm.evaluators.one_shot import OneShotEvaluator

__all__ = ['Evaluator', 'OneShotEvaluator']
