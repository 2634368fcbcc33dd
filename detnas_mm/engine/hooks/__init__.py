"""Hooks for mmengine's Runner."""

from detnas_mm.engine.hooks.channels_last_hook import ChannelsLastHook
from detnas_mm.engine.hooks.evolution_search_hook import EvolutionSearchHook
from detnas_mm.engine.hooks.path_sampling_hook import PathSamplingHook

__all__ = ['ChannelsLastHook', 'EvolutionSearchHook', 'PathSamplingHook']
