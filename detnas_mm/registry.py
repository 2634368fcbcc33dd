"""The registries of detnas_mm.

Models, hooks and data are children of mmengine's registries, so ``type='detnas_mm.X'`` works in any OpenMMLab config
and imports this package by itself. The registries of the search are roots. Parts of a system under ``systems/`` are
found by fixed file names: ``space.py``, ``costs.py``, ``strategies.py``, ``evaluators.py`` (rankers too), ``model.py``,
``samplers.py``, ``hooks.py`` (loops and optimiser constructors too) and ``latency.py`` (latency subjects). Nothing here
imports torch.
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
    """Returns the modules of all systems with a file name, such as ``'detnas_mm.systems.<system>.space'``.

    It lists the folders, since ``find_spec`` would import the packages, which need these registries.
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

    Unlike ``registry.build`` it ignores mmengine's default scope, and its errors are about the config.

    Args:
        registry: One of the registries of this module.
        cfg: A mapping with ``type`` (``'X'`` or ``'detnas_mm.X'``) and the arguments; any other object is returned as
            it is, so that built objects can be passed.
        **defaults: Arguments that the config does not set.

    Raises:
        DetNASError: If ``type`` is missing or unknown, an argument is unknown, a plain value is given instead of a
            config, or the constructor raises a ValueError or TypeError.
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
        raise DetNASError(f'Unknown {registry.name} {name!r}. Registered: {", ".join(sorted(registry.module_dict))}.')
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
    """Returns a sentence about arguments that a class or function does not have; '' if it has them all."""
    allowed = inspect.signature(cls).parameters
    unknown = [key for key in args if key not in allowed]
    if not unknown or any(p.kind is p.VAR_KEYWORD for p in allowed.values()):
        return ''
    return f'{cls.__name__} has no argument {", ".join(map(repr, unknown))}; it takes {", ".join(allowed)}.'


@contextmanager
def building(what: str) -> Iterator[None]:
    """Converts errors of mmengine, when it builds a part of a config, into expected errors.

    So are errors of libraries and a ValueError of any constructor; see :func:`~detnas_mm.errors.library_errors`.

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
    """Converts errors about unknown types or arguments, and of libraries, while mmengine uses a config.

    Args:
        what: Name of the config, or the key of a part.
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
    """Returns a sentence about an unknown type or argument, if one caused an error of mmengine's registry; else ''."""
    frames = _frames(error)
    if not frames or frames[-1].f_code.co_name != 'build_from_cfg':
        return ''
    here = frames[-1].f_locals
    if isinstance(error, KeyError) and isinstance(here.get('obj_type'), str):
        return _unknown_type(here['obj_type'], here['registry'])
    cls = here.get('obj_cls')
    return unknown_arguments(cls, here['args']) if isinstance(error, TypeError) and inspect.isclass(cls) else ''


def refuse_unknown_type(what: str, name: Any, registry: Registry) -> None:
    """Raises if a registry does not have a name, before mmengine builds it.

    Raises:
        DetNASError: See :func:`building`.
    """
    if isinstance(name, str) and registry.get(name) is None:
        raise DetNASError(f'{what}: {_unknown_type(name, registry)}')


def _unknown_type(name: str, registry: Registry) -> str:
    """Returns a sentence about an unknown name in a registry of mmengine or of another package."""
    bare, known = name.rpartition('.')[2], set()
    for own in (MODELS, HOOKS, LOOPS, OPTIM_WRAPPER_CONSTRUCTORS, DATASETS):
        if own.name == registry.name:
            own.import_from_location()
            known = {f'detnas_mm.{key}' for key in own.module_dict}
    said = f'{name!r} is not a registered {registry.name}'
    if f'detnas_mm.{bare}' in known:
        return f"{said}; did you mean 'detnas_mm.{bare}'?"
    there: Registry | None = registry
    while there is not None:
        known |= set(there.module_dict)
        there = there.parent
    near = {key.rpartition('.')[2]: key for key in sorted(known)}
    names = [near[key] for key in get_close_matches(bare, near, 3)]
    advice = f'Similar names: {", ".join(names)}.' if names else 'No similar name is registered.'
    return f'{said}. {advice} For a class in a module of yours add custom_imports=dict(imports=[MODULE]).'
