"""Parts that run inside mmengine's Runner, and functions that start it."""

from detnas_mm.compat import check_stack

check_stack()

from detnas_mm.engine.hooks import (  # noqa: E402
    AtomicCheckpointHook,
    ChannelsLastHook,
    EpochSeedHook,
    EvolutionSearchHook,
    IterationSeedHook,
    PathSamplingHook,
    SearchHook,
    TrainingSearchHook,
    TruthHook,
)
from detnas_mm.engine.optim import FewGroupsOptimWrapperConstructor  # noqa: E402
from detnas_mm.engine.path_samplers import PathSampler, UniformPathSampler  # noqa: E402
from detnas_mm.engine.search import run_search  # noqa: E402
from detnas_mm.engine.seeding import seed_loader, seed_process  # noqa: E402

__all__ = [
    'AtomicCheckpointHook',
    'ChannelsLastHook',
    'EpochSeedHook',
    'EvolutionSearchHook',
    'FewGroupsOptimWrapperConstructor',
    'IterationSeedHook',
    'PathSampler',
    'PathSamplingHook',
    'SearchHook',
    'TrainingSearchHook',
    'TruthHook',
    'UniformPathSampler',
    'run_search',
    'seed_loader',
    'seed_process',
]
