"""Evaluators compute the metrics of candidates."""

from detnas_mm.evaluators.one_shot.evaluator import OneShotEvaluator
from detnas_mm.evaluators.tabular import TabularEvaluator
from detnas_mm.evaluators.training.evaluator import ShortTraining
from detnas_mm.search import Evaluator

__all__ = ['Evaluator', 'OneShotEvaluator', 'ShortTraining', 'TabularEvaluator']
