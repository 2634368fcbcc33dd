"""One-shot evaluation: paths of a supernet, arranged as a tree, with recalibrated BN statistics."""

from detnas_mm.evaluators.one_shot.evaluator import OneShotEvaluator

__all__ = ['OneShotEvaluator']
