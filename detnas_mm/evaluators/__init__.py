"""How good a candidate is."""

from detnas_mm.evaluators.base import Evaluator
from detnas_mm.evaluators.one_shot import OneShotEvaluator
from detnas_mm.evaluators.tabular import TabularEvaluator
from detnas_mm.evaluators.zero_shot import DeepMADScore, EntropyScore

__all__ = ['DeepMADScore', 'EntropyScore', 'Evaluator', 'OneShotEvaluator', 'TabularEvaluator']
