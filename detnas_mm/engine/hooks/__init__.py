"""Hooks for mmengine's Runner."""

from detnas_mm.engine.hooks.evolution_search_hook import EvolutionSearchHook
from detnas_mm.engine.hooks.path_sampling_hook import PathSamplingHook

__all__ = ['EvolutionSearchHook', 'PathSamplingHook']
