"""What runs inside mmengine's Runner, and what starts it."""

from detnas_mm.compat import check_stack

check_stack()

from detnas_mm.engine.hooks import ChannelsLastHook, EvolutionSearchHook, PathSamplingHook, SearchHook  # noqa: E402
from detnas_mm.engine.optim import FewGroupsOptimWrapperConstructor  # noqa: E402
from detnas_mm.engine.path_samplers import MacsBinPathSampler, PathSampler, UniformPathSampler  # noqa: E402
from detnas_mm.engine.search import SearchPlan, run_search  # noqa: E402

__all__ = [
    'ChannelsLastHook',
    'EvolutionSearchHook',
    'FewGroupsOptimWrapperConstructor',
    'MacsBinPathSampler',
    'PathSampler',
    'PathSamplingHook',
    'SearchHook',
    'SearchPlan',
    'UniformPathSampler',
    'run_search',
]
