"""What runs inside mmengine's Runner, and what starts it."""

from detnas_mm.compat import check_stack

check_stack()

from detnas_mm.engine.hooks import (  # noqa: E402
    ChannelsLastHook,
    EvolutionSearchHook,
    PathSamplingHook,
    SearchHook,
    TrainingSearchHook,
)
from detnas_mm.engine.optim import FewGroupsOptimWrapperConstructor  # noqa: E402
from detnas_mm.engine.path_samplers import PathSampler, UniformPathSampler  # noqa: E402
from detnas_mm.engine.search import run_search  # noqa: E402

__all__ = [
    'ChannelsLastHook',
    'EvolutionSearchHook',
    'FewGroupsOptimWrapperConstructor',
    'PathSampler',
    'PathSamplingHook',
    'SearchHook',
    'TrainingSearchHook',
    'UniformPathSampler',
    'run_search',
]
