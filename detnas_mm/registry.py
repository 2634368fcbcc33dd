"""The registries of detnas_mm.

Those that OpenMMLab already has (models, hooks, data) are children of mmengine's, so that
``type='detnas_mm.X'`` works in any config of the ecosystem and imports this package by itself.
Those of the search are roots of their own. Nothing here imports torch.
"""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='detnas_mm', locations=['detnas_mm.models'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='detnas_mm', locations=['detnas_mm.engine'])
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope='detnas_mm', locations=['detnas_mm.datasets'])

SPACES = Registry('search space', scope='detnas_mm', locations=['detnas_mm.spaces'])
COSTS = Registry('cost', scope='detnas_mm', locations=['detnas_mm.cost'])
STRATEGIES = Registry('search strategy', scope='detnas_mm', locations=['detnas_mm.search'])
EVALUATORS = Registry('evaluator', scope='detnas_mm', locations=['detnas_mm.evaluators'])
PATH_SAMPLERS = Registry('path sampler', scope='detnas_mm', locations=['detnas_mm.engine'])
