"""The registries of detnas_mm.

Those that OpenMMLab already has (models, hooks, data) are children of mmengine's, so that
``type='detnas_mm.X'`` works in any config of the ecosystem and imports this package by itself.
Those of the search are roots of their own. What a system under ``systems/`` adds is found by fixed names of its files:
``space.py``, ``costs.py``, ``strategies.py``, ``evaluators.py`` (rankers too), ``model.py``, ``samplers.py``,
``hooks.py`` (loops and optimisers' constructors too) and ``latency.py`` (latency subjects). Nothing here imports torch.
"""

import inspect
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import FrameType
from typing import Any

from detnas_mm.compat import require
from detnas_mm.errors import DetNASError, LibraryError, library_errors, said

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
OPTIM_WRAPPER_CONSTRUCTORS = _child(MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS, ['detnas_mm.engine', *system_modules('hooks')])
DATASETS = _child(MMENGINE_DATASETS, ['detnas_mm.datasets'])

SPACES = _root('search space', ['detnas_mm.spaces', *system_modules('space')])
COSTS = _root('cost', ['detnas_mm.latency', *system_modules('costs')])
STRATEGIES = _root('search strategy', ['detnas_mm.search', *system_modules('strategies')])
EVALUATORS = _root('evaluator', ['detnas_mm.evaluators', *system_modules('evaluators')])
RANKERS = _root('ranker', ['detnas_mm.search', *system_modules('evaluators')])
PATH_SAMPLERS = _root('path sampler', ['detnas_mm.engine', *system_modules('samplers')])
WORKERS = _root('workers', ['detnas_mm.workers'])
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
    refusal = unknown_arguments(cls, args)
    if refusal:
        raise DetNASError(refusal)
    try:
        return cls(**args)
    except DetNASError:
        raise
    except ValueError as error:
        raise LibraryError(f'{cls.__name__}: {error or repr(error)}') from error
    except TypeError as error:  # an argument is missing, or of a type that the constructor cannot use
        raise DetNASError(f'{cls.__name__} cannot be built with {args}: {error}.') from error


def unknown_arguments(cls: Any, args: Mapping[str, Any]) -> str:
    """A sentence about arguments that a class or function does not take; '' if it takes them all."""
    allowed = inspect.signature(cls).parameters
    unknown = [key for key in args if key not in allowed]
    if not unknown or any(p.kind is p.VAR_KEYWORD for p in allowed.values()):
        return ''
    return f'{cls.__name__} has no argument {", ".join(map(repr, unknown))}; it takes {", ".join(allowed)}.'


@contextmanager
def building(what: str) -> Iterator[None]:
    """For mmengine's building of a part of a config: what is wrong with the config is an expected error.

    So are what libraries refuse and a ValueError of any constructor; see :func:`~detnas_mm.errors.library_errors`.

    Args:
        what: The key of the part, such as ``'model'``.
    """
    try:
        with running(what, alone=False):
            yield
    except DetNASError:
        raise
    except ValueError as error:
        built = [frame.f_locals.get('obj_cls') for frame in _frames(error) if frame.f_code.co_name == 'build_from_cfg']
        name = f'{built[-1].__name__}: ' if built and inspect.isclass(built[-1]) else ''
        raise LibraryError(f'{what}: {name}{said(error)}') from error


@contextmanager
def running(what: str, alone: bool = True) -> Iterator[None]:
    """For what mmengine does with a config: an unknown type or argument, and what libraries refuse, is expected.

    Args:
        what: The config, or the key of a part.
        alone: See :func:`~detnas_mm.errors.library_errors`.
    """
    try:
        with library_errors(what, alone):
            yield
    except LibraryError as error:
        refusal = _refusal(error.__cause__)
        if refusal:
            raise DetNASError(f'{what}: {refusal}') from None
        raise


def _frames(error: BaseException | None) -> list[FrameType]:
    return [] if error is None else [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def _refusal(error: BaseException | None) -> str:
    """A sentence about an unknown type or argument, if that is what mmengine's registry was stopped by; or ''."""
    frames = _frames(error)
    if not frames or frames[-1].f_code.co_name != 'build_from_cfg':
        return ''
    here = frames[-1].f_locals
    if isinstance(error, KeyError) and isinstance(here.get('obj_type'), str):
        return _unknown_type(here['obj_type'], here['registry'])
    cls = here.get('obj_cls')
    return unknown_arguments(cls, here['args']) if isinstance(error, TypeError) and inspect.isclass(cls) else ''


def refuse_unknown_type(what: str, name: Any, registry: Registry) -> None:
    """Refuses a name that a registry does not have, before mmengine is asked to build it.

    Raises:
        DetNASError: See :func:`building`.
    """
    if isinstance(name, str) and registry.get(name) is None:
        raise DetNASError(f'{what}: {_unknown_type(name, registry)}')


def _unknown_type(name: str, registry: Registry) -> str:
    """A sentence about a name that a registry of mmengine or of another package does not have."""
    bare, known = name.rpartition('.')[2], set()
    for own in (MODELS, HOOKS, LOOPS, OPTIM_WRAPPER_CONSTRUCTORS, DATASETS):
        if own.name == registry.name:
            own.import_from_location()
            known = {f'detnas_mm.{key}' for key in own.module_dict}
    said = f'{name!r} is no registered {registry.name}'
    if f'detnas_mm.{bare}' in known:
        return f"{said}; that of this package is 'detnas_mm.{bare}'."
    there: Registry | None = registry
    while there is not None:
        known |= set(there.module_dict)
        there = there.parent
    near = {key.rpartition('.')[2]: key for key in sorted(known)}
    names = [near[key] for key in get_close_matches(bare, near, 3)]
    advice = f'Names like it: {", ".join(names)}.' if names else 'Nothing of a similar name is registered.'
    return f'{said}. {advice} What a module of yours registers is found by custom_imports=dict(imports=[MODULE]).'
