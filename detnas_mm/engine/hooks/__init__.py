"""Hooks for mmengine's Runner."""

from detnas_mm.engine.hooks.channels_last_hook import ChannelsLastHook
from detnas_mm.engine.hooks.path_sampling_hook import PathSamplingHook
from detnas_mm.engine.hooks.search_hook import EvolutionSearchHook, SearchHook
from detnas_mm.engine.hooks.training_search_hook import TrainingSearchHook

__all__ = ['ChannelsLastHook', 'EvolutionSearchHook', 'PathSamplingHook', 'SearchHook', 'TrainingSearchHook']
