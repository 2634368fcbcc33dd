"""The registries of detnas_mm.

Those that OpenMMLab already has (models, hooks, data) are children of mmengine's, so that
``type='detnas_mm.X'`` works in any config of the ecosystem and imports this package by itself.
Those of the search are roots of their own. Nothing here imports torch.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from detnas_mm.compat import require
from detnas_mm.errors import DetNASError, expected_errors

require('mmengine')

from mmengine.registry import DATASETS as MMENGINE_DATASETS  # noqa: E402
from mmengine.registry import HOOKS as MMENGINE_HOOKS  # noqa: E402
from mmengine.registry import MODELS as MMENGINE_MODELS  # noqa: E402
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS  # noqa: E402
from mmengine.registry import Registry  # noqa: E402

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='detnas_mm', locations=['detnas_mm.models'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='detnas_mm', locations=['detnas_mm.engine'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='detnas_mm',
    locations=['detnas_mm.engine'],
)
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope='detnas_mm', locations=['detnas_mm.datasets'])

SPACES = Registry('search space', scope='detnas_mm', locations=['detnas_mm.spaces'])
COSTS = Registry('cost', scope='detnas_mm', locations=['detnas_mm.cost'])
STRATEGIES = Registry('search strategy', scope='detnas_mm', locations=['detnas_mm.search'])
RANKERS = Registry('ranker', scope='detnas_mm', locations=['detnas_mm.search', 'detnas_mm.evaluators'])
EVALUATORS = Registry('evaluator', scope='detnas_mm', locations=['detnas_mm.evaluators'])
PATH_SAMPLERS = Registry('path sampler', scope='detnas_mm', locations=['detnas_mm.engine'])


def build_from(registry: Registry, cfg: Any, **defaults: Any) -> Any:
    """Builds an object of this package from its config.

    Unlike ``registry.build`` it does not look at mmengine's default scope, and it says what is wrong with a config
    in terms of that config.

    Args:
        registry: One of the registries of this module.
        cfg: A mapping with ``type`` (``'X'`` or ``'detnas_mm.X'``) and the arguments; anything else is returned as it
            is, so that ready-made objects can be passed.
        **defaults: Arguments to be used where the config is silent.

    Raises:
        DetNASError: If ``type`` is missing or unknown, or an argument is, or a plain value stands in the config's
            place, or the constructor raises a ValueError or TypeError.
    """
    if isinstance(cfg, (str, int, float, list, tuple)):
        what = getattr(defaults.get('type'), '__name__', f'a {registry.name}')
        raise DetNASError(f"The settings of {what} must be a dict, such as dict(type='…'); got {cfg!r}.")
    if not isinstance(cfg, Mapping):
        return cfg
    args = {**defaults, **cfg}
    name = args.pop('type', None)
    cls = registry.get(name) if isinstance(name, str) else name
    if not callable(cls):
        registry.import_from_location()
        raise DetNASError(f'{name!r} is no {registry.name}. There are: {", ".join(sorted(registry.module_dict))}.')
    allowed = inspect.signature(cls).parameters
    unknown = [key for key in args if key not in allowed]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in allowed.values()):
        raise DetNASError(
            f'{cls.__name__} has no argument {", ".join(map(repr, unknown))}; it takes {", ".join(allowed)}.'
        )
    try:
        with expected_errors():
            return cls(**args)
    except TypeError as error:  # an argument is missing, or of a type that the constructor cannot use
        raise DetNASError(f'{cls.__name__} cannot be built with {args}: {error}.') from error
