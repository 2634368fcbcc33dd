"""Trains candidates as whole configs, each in a process of its own."""

from detnas_mm.evaluators.training.evaluator import ShortTraining

__all__ = ['ShortTraining']
