"""The registries of detnas_mm.

Those that OpenMMLab already has (models, hooks, data) are children of mmengine's, so that
``type='detnas_mm.X'`` works in any config of the ecosystem and imports this package by itself.
Those of the search are roots of their own. What a system under ``systems/`` adds is found by fixed names of its files:
``space.py``, ``costs.py``, ``strategies.py``, ``evaluators.py`` (rankers too), ``model.py``, ``samplers.py``,
``hooks.py`` (loops too) and ``latency.py`` (latency subjects). Nothing here imports torch.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detnas_mm.compat import require
from detnas_mm.errors import DetNASError, expected_errors

require('mmengine')

from mmengine.registry import DATASETS as MMENGINE_DATASETS  # noqa: E402
from mmengine.registry import HOOKS as MMENGINE_HOOKS  # noqa: E402
from mmengine.registry import LOOPS as MMENGINE_LOOPS  # noqa: E402
from mmengine.registry import MODELS as MMENGINE_MODELS  # noqa: E402
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS  # noqa: E402
from mmengine.registry import Registry  # noqa: E402

_SYSTEMS = Path(__file__).parent / 'systems'


def system_modules(file: str) -> list[str]:
    """Names of the modules that systems have by that name, such as ``'detnas_mm.systems.<system>.space'``.

    Looks at the folders: ``find_spec`` would import the packages, which need these registries.
    """
    systems = sorted(path.parent.name for path in _SYSTEMS.glob(f'*/{file}.py'))
    return [f'detnas_mm.systems.{system}.{file}' for system in systems]


def _child(parent: Registry, locations: list[str]) -> Registry:
    return Registry(parent.name, parent=parent, scope='detnas_mm', locations=locations)


def _root(name: str, locations: list[str]) -> Registry:
    return Registry(name, scope='detnas_mm', locations=locations)


MODELS = _child(MMENGINE_MODELS, ['detnas_mm.models', *system_modules('model')])
HOOKS = _child(MMENGINE_HOOKS, ['detnas_mm.engine', *system_modules('hooks')])
LOOPS = _child(MMENGINE_LOOPS, ['detnas_mm.engine', *system_modules('hooks')])
OPTIM_WRAPPER_CONSTRUCTORS = _child(MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS, ['detnas_mm.engine'])
DATASETS = _child(MMENGINE_DATASETS, ['detnas_mm.datasets'])

SPACES = _root('search space', ['detnas_mm.spaces', *system_modules('space')])
COSTS = _root('cost', ['detnas_mm.latency', *system_modules('costs')])
STRATEGIES = _root('search strategy', ['detnas_mm.search', *system_modules('strategies')])
EVALUATORS = _root('evaluator', ['detnas_mm.evaluators', *system_modules('evaluators')])
RANKERS = _root('ranker', ['detnas_mm.search', *system_modules('evaluators')])
PATH_SAMPLERS = _root('path sampler', ['detnas_mm.engine', *system_modules('samplers')])
LATENCY_SUBJECTS = _root('latency subject', system_modules('latency'))


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
