"""Configs as values: what a ``type`` stands for (text, a class, a built object), and the text that holds a config.

Types of this package are recognised by class. Those of other packages, which need not be installed, are compared by
name, here alone.
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

#: What types of other packages are called: in registries, and as classes.
_OTHERS = {
    'AmpOptimWrapper': ('AmpOptimWrapper',),
    'FasterCocoMetric': ('FasterCocoMetric',),
    'Pretrained': ('Pretrained', 'PretrainedInit'),
    'SyncBN': ('SyncBN', 'MMSyncBN', 'NaiveSyncBN', 'SyncBatchNorm'),
    'nms': ('nms',),
    # their random numbers, or what they keep of images, are in no checkpoint
    'keeps_state': ('Albu', 'BatchSyncRandomResize', 'CachedMixUp', 'CachedMosaic'),
}
#: mmengine and mmcv know these by their short names alone: the text of a whole path is something else to them.
_SHORT = {('mmengine.model.weight_init', 'PretrainedInit'): 'Pretrained'}
_SHORT |= {('mmcv.ops.nms', name): name for name in ('nms', 'soft_nms')}


def resolve_type(cfg: Any, registry: Registry, scope: str | None = None) -> Any:
    """Returns what a config's ``type`` stands for.

    Args:
        cfg: A mapping with ``type``; of anything else, an object that is built already, the class is returned.
        registry: Where text is looked up.
        scope: The default scope of the whole config, in which text without a scope is looked up. Defaults to None: that
            of the registry.

    Returns:
        A class or a function; None if there is no ``type``, or nothing of that name.
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
    """Whether a hook's config, or a hook, is of a class.

    Args:
        hook: An entry of ``custom_hooks``.
        kind: The class, or its name.
        scope: The config's ``default_scope``.
    """
    found = resolve_type(hook, HOOKS, scope)
    wanted = resolve_type(dict(type=kind), HOOKS)
    return isclass(found) and issubclass(found, wanted)


def type_name(kind: Any) -> str:
    """The name of a type without scope and module: ``'X'`` for the class, ``'X'``, ``'scope.X'`` and ``'module.X'``."""
    return kind.rpartition('.')[2] if isinstance(kind, str) else getattr(kind, '__name__', str(kind))


def is_other(cfg: Any, name: str) -> bool:
    """Whether a config's ``type`` is one of another package.

    Args:
        cfg: A mapping; anything else is of none.
        name: ``'SyncBN'`` (and its kin), ``'Pretrained'``, ``'FasterCocoMetric'``, ``'AmpOptimWrapper'``, ``'nms'``
            or ``'keeps_state'`` (parts that no checkpoint restores).
    """
    return isinstance(cfg, Mapping) and type_name(cfg.get('type')) in _OTHERS[name]


def as_text(written: Config | Mapping[str, Any]) -> Config:
    """Returns a config in which classes and functions, as new-style configs have them, are text: ``'module.Name'``.

    Registries read them as well, and files that hold them can be read again. A plain mapping becomes a config.

    Raises:
        ValueError: If something cannot be found by its name.
    """
    cfg = written if isinstance(written, Config) else Config(dict(written))
    kept = cfg.to_dict()  # without what the config file imported
    plain = {key: _plain(value) for key, value in cfg.items() if key in kept}
    return Config(plain, cfg.text, cfg.filename)  # without the text, the file would be read again


def config_text(cfg: Config) -> str:
    """The text of a config file from which the same config is read; new-style classes are in it by name.

    Raises:
        DetNASError: If it would be read as something else, or not at all; names the setting.
    """
    plain = as_text(cfg)
    text = _text_read_back(plain)
    if text is None:
        key, value = _unreadable(plain.to_dict())
        raise DetNASError(
            f'A search writes its config, and those of the nets it finds, into files. {key or "It"} is {value!r:.200}, '
            f'which would not be read from a file as it is: give it as text, numbers, lists and dicts of these.'
        )
    return text


def _text_read_back(cfg: Config) -> str | None:
    """The text of a config in plain values; None if another config, or none, is read from it."""
    try:
        text = cfg.pretty_text
        return text if Config.fromstring(text, '.py').to_dict() == cfg.to_dict() else None
    except Exception:  # whatever the text, run as a config, raises
        return None


def _unreadable(value: Any, key: str = '') -> tuple[str, Any]:
    """The innermost part of a config that is not read as it is written, and what it is called."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for name, part in parts:
        if _text_read_back(Config(dict(part=part), format_python_code=False)) is None:
            return _unreadable(part, f'{key}.{name}' if key else str(name))
    return key, value


def nodes(node: Any) -> Iterator[dict]:
    """All dicts in a part of a config, itself included."""
    return (one for _, one in named_nodes('', node))


def named_nodes(name: str, node: Any) -> Iterator[tuple[str, dict]]:
    """The same, each with its place, such as ``'model.neck.0'`` in the part of the name ``'model'``."""
    if isinstance(node, dict):
        yield name, node
    parts = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, child in parts:
        yield from named_nodes(f'{name}.{key}', child)


def comparable(node: Any, leaf: Callable[[Any], str] = str, skip: Container[str] = ()) -> Any:
    """Settings as nested dicts and lists with keys in order and all else as text.

    Two of them have the same ``repr`` whether they come from a config, or from a file that it was written to: there
    keys are sorted, and classes are texts.

    Args:
        node: A part of a config.
        leaf: Gives the text of a value that is no container.
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
    """The text by which a registry finds a class or a function."""
    module, name = str(value.__module__), value.__qualname__
    if (module, name) in _SHORT:
        return _SHORT[module, name]
    packages = module.split('.')
    for length in range(len(packages), 0, -1):  # a package may have a function in the place of its module
        path = '.'.join([*packages[:length], name])
        if _found(path) is value:
            return path
    raise DetNASError(
        f'The config holds {value!r}, which cannot be found as {module}.{name} when the config is read again. Define '
        f'it at the top of a module that can be imported.'
    )


def _found(path: str) -> Any:
    try:
        return get_object_from_string(path)
    except Exception:  # whatever the module raises that is imported
        return None
