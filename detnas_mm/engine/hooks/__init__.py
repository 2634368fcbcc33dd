"""Hooks for mmengine's Runner."""

from detnas_mm.engine.hooks.channels_last_hook import ChannelsLastHook
from detnas_mm.engine.hooks.checkpoint_hook import AtomicCheckpointHook
from detnas_mm.engine.hooks.path_sampling_hook import PathSamplingHook
from detnas_mm.engine.hooks.search_hook import EvolutionSearchHook, SearchHook
from detnas_mm.engine.hooks.seed_hook import EpochSeedHook, IterationSeedHook
from detnas_mm.engine.hooks.training_search_hook import TrainingSearchHook
from detnas_mm.engine.hooks.truth_hook import TruthHook

__all__ = [
    'AtomicCheckpointHook',
    'ChannelsLastHook',
    'EpochSeedHook',
    'EvolutionSearchHook',
    'IterationSeedHook',
    'PathSamplingHook',
    'SearchHook',
    'TrainingSearchHook',
    'TruthHook',
]
