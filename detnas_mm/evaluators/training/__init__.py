"""Trained candidates: whole configs, each trained by a process of its own."""

from detnas_mm.evaluators.training.evaluator import ShortTraining

__all__ = ['ShortTraining']
