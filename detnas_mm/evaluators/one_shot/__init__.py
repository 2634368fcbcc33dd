"""One-shot evaluation: paths of a supernet, as a tree, their BN statistics recalibrated."""

from detnas_mm.evaluators.one_shot.evaluator import OneShotEvaluator

__all__ = ['OneShotEvaluator']
