"""Values of configs: what a ``type`` refers to (text, class or built object), and writing a config as text.

Types of this package are recognised by class. Those of other packages, which may not be installed, are compared by
name, and only here.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from inspect import isclass, isroutine
from typing import Any

from mmengine.config import Config
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.registry import HOOKS, Registry
from mmengine.utils import get_object_from_string

from detnas_mm.errors import DetNASError

#: Names of types of other packages: in registries, and as classes.
_OTHERS = {
    'AmpOptimWrapper': ('AmpOptimWrapper',),
    'FasterCocoMetric': ('FasterCocoMetric',),
    'Pretrained': ('Pretrained', 'PretrainedInit'),
    'SyncBN': ('SyncBN', 'MMSyncBN', 'NaiveSyncBN', 'SyncBatchNorm'),
    'nms': ('nms',),
    # checkpoints do not contain their random states or cached images
    'keeps_state': ('Albu', 'BatchSyncRandomResize', 'CachedMixUp', 'CachedMosaic'),
}
#: mmengine and mmcv recognise these only by short name, not by the full path.
_SHORT = {('mmengine.model.weight_init', 'PretrainedInit'): 'Pretrained'}
_SHORT |= {('mmcv.ops.nms', name): name for name in ('nms', 'soft_nms')}


def resolve_type(cfg: Any, registry: Registry, scope: str | None = None) -> Any:
    """Resolves a config's ``type`` to a class or function.

    Args:
        cfg: A mapping with ``type``; for a built object, its class is returned.
        registry: Registry for types given as text.
        scope: Default scope of the whole config, for text without a scope. Defaults to None: that of the registry.

    Returns:
        A class or a function; None if there is no ``type``, or the name is not registered.
    """
    if not isinstance(cfg, Mapping):
        return type(cfg)
    kind = cfg.get('type')
    if not isinstance(kind, str):
        return kind
    scope = cfg.get('_scope_', scope)  # mmengine's mark on what was inherited from another package
    try:
        if scope is None:
            return registry.get(kind)
        with registry.switch_scope_and_registry(scope) as scoped:
            return scoped.get(kind)
    except RuntimeError:  # of Registry.get, where a module of that name cannot be imported
        return None


def is_hook(hook: Any, kind: type | str, scope: str | None = None) -> bool:
    """Returns True if a hook, or a hook's config, is of a class.

    Args:
        hook: An entry of ``custom_hooks``.
        kind: The class, or its name.
        scope: The config's ``default_scope``.
    """
    found = resolve_type(hook, HOOKS, scope)
    wanted = resolve_type(dict(type=kind), HOOKS)
    return isclass(found) and issubclass(found, wanted)


def type_name(kind: Any) -> str:
    """Returns the name of a type without scope and module: ``'X'`` for class X, ``'scope.X'`` and ``'module.X'``."""
    return kind.rpartition('.')[2] if isinstance(kind, str) else getattr(kind, '__name__', str(kind))


def is_other(cfg: Any, name: str) -> bool:
    """Returns True if a config's ``type`` is a certain type of another package.

    Args:
        cfg: A mapping; False for anything else.
        name: ``'SyncBN'`` (and its variants), ``'Pretrained'``, ``'FasterCocoMetric'``, ``'AmpOptimWrapper'``,
            ``'nms'`` or ``'keeps_state'`` (parts that no checkpoint restores).
    """
    return isinstance(cfg, Mapping) and type_name(cfg.get('type')) in _OTHERS[name]


def as_text(written: Config | Mapping[str, Any]) -> Config:
    """Returns a config with classes and functions of new-style configs as text: ``'module.Name'``.

    Registries accept this text, and it can be written to files. A plain mapping becomes a config.

    Raises:
        ValueError: If a class or function cannot be found by its name.
    """
    cfg = written if isinstance(written, Config) else Config(dict(written))
    kept = cfg.to_dict()  # without imports of the config file
    plain = {key: _plain(value) for key, value in cfg.items() if key in kept}
    return Config(plain, cfg.text, cfg.filename)  # without the text Config would read the file again


def config_text(cfg: Config) -> str:
    """Returns the text of a config file that reads back as the same config; classes are written by name.

    Raises:
        DetNASError: If it would read back differently, or not at all. The message names the setting.
    """
    plain = as_text(cfg)
    text = _text_read_back(plain)
    if text is None:
        key, value = _unreadable(plain.to_dict())
        raise DetNASError(
            f'A search writes its config, and those of found nets, to files. {key or "It"} is {value!r:.200}, which '
            f'cannot be '
            f'written to a config file: use strings, numbers, lists and dicts of these.'
        )
    return text


def _text_read_back(cfg: Config) -> str | None:
    """Returns the text of a config of plain values; None if it does not read back as the same config."""
    try:
        text = cfg.pretty_text
        return text if Config.fromstring(text, '.py').to_dict() == cfg.to_dict() else None
    except Exception:  # any error of the config's code
        return None


def _unreadable(value: Any, key: str = '') -> tuple[str, Any]:
    """Returns key and value of the innermost part of a config that does not read back as written."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for name, part in parts:
        if _text_read_back(Config(dict(part=part), format_python_code=False)) is None:
            return _unreadable(part, f'{key}.{name}' if key else str(name))
    return key, value


def nodes(node: Any) -> Iterator[dict]:
    """Yields all dicts in a part of a config, the part included."""
    return (one for _, one in named_nodes('', node))


def named_nodes(name: str, node: Any) -> Iterator[tuple[str, dict]]:
    """Yields all dicts in a part of a config with their places, such as ``'model.neck.0'`` in ``'model'``."""
    if isinstance(node, dict):
        yield name, node
    parts = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, child in parts:
        yield from named_nodes(f'{name}.{key}', child)


def comparable(node: Any, leaf: Callable[[Any], str] = str, skip: Container[str] = ()) -> Any:
    """Normalises settings to nested dicts with sorted keys, lists, and text for everything else.

    Two of them have the same ``repr`` whether they come from a config or from a file that it was written to: in the
    file keys are sorted and classes are text.

    Args:
        node: A part of a config.
        leaf: Function that returns the text of a value that is not a container.
        skip: Keys to leave out.
    """
    if isinstance(node, Mapping):
        return {str(key): comparable(value, leaf, skip) for key, value in sorted(node.items()) if key not in skip}
    if isinstance(node, (list, tuple)):
        return [comparable(value, leaf, skip) for value in node]
    return leaf(_plain(node))


def _plain(value: Any) -> Any:
    if isinstance(value, (LazyObject, LazyAttr)):
        value = value.build()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value] if isinstance(value, list) else tuple(map(_plain, value))
    return _path_of(value) if isclass(value) or isroutine(value) else value


def _path_of(value: Any) -> str:
    """Returns the path by which a registry finds a class or a function."""
    module, name = str(value.__module__), value.__qualname__
    if (module, name) in _SHORT:
        return _SHORT[module, name]
    packages = module.split('.')
    for length in range(len(packages), 0, -1):  # a package may have a function with the name of its module
        path = '.'.join([*packages[:length], name])
        if _found(path) is value:
            return path
    raise DetNASError(
        f'The config has {value!r}, which cannot be imported as {module}.{name} when the config is read again. Define '
        f'it at the top of a module that can be imported.'
    )


def _found(path: str) -> Any:
    try:
        return get_object_from_string(path)
    except Exception:  # any error of importing the module
        return None
