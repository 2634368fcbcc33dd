"""Checks settings that constructors do not check, or only after hours of work, before anything is built."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from mmcv import ops
from mmengine.hooks import Hook
from mmengine.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    RUNNERS,
    TASK_UTILS,
    TRANSFORMS,
    VISUALIZERS,
)
from mmengine.runner import Runner

from detnas_mm.checks import flag
from detnas_mm.config_types import named_nodes, nodes, resolve_type, type_name
from detnas_mm.errors import DetNASError
from detnas_mm.registry import refuse_unknown_type, unknown_arguments

_REGISTRIES = (
    MODELS, TRANSFORMS, DATASETS, METRICS, HOOKS, TASK_UTILS, VISUALIZERS, OPTIMIZERS, OPTIM_WRAPPERS,
    PARAM_SCHEDULERS, LOOPS, DATA_SAMPLERS,
)  # fmt: skip
#: Keys that mmengine reads in dicts without a constructor; it ignores all others.
_KEYS = {
    'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'),
    'auto_scale_lr': ('enable', 'base_batch_size'),
}
_FLAGS = (
    'resume', 'find_unused_parameters', 'env_cfg.cudnn_benchmark', 'auto_scale_lr.enable', 'randomness.deterministic',
    'randomness.diff_rank_seed',
    *(f'{split}_dataloader.{name}' for split in ('train', 'val', 'test')
      for name in ('pin_memory', 'drop_last', 'persistent_workers')),
)  # fmt: skip
_LEVELS = ('CRITICAL', 'ERROR', 'WARNING', 'INFO', 'DEBUG')
_DEFAULT_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
#: NMS functions of mmcv, which looks them up by name only when there are boxes.
_NMS = ('nms', 'soft_nms', 'nms_rotated', 'nms_quadri')
_NMS_ALWAYS = ('type', 'class_agnostic', 'split_thr', 'max_num', 'iou_thr')


@dataclass(frozen=True)
class JobSettings:
    """Settings of a config that constructors do not check, or only after hours of work, read once.

    Attributes:
        flags: Values that must be True or False, by their place.
        log_level: The given value.
        runner: Name of the configured Runner; None for mmengine's.
        runner_kind: Class of that Runner; None if not registered.
        names: Keys of dicts of which mmengine reads only known keys: (dict, key).
        custom_hooks: The given value.
        default_hooks: The given value.
        nms: Settings of NMS, by their place.
    """

    flags: tuple[tuple[str, Any], ...]
    log_level: Any
    runner: Any
    runner_kind: Any
    names: tuple[tuple[str, str], ...]
    custom_hooks: Any
    default_hooks: Any
    nms: tuple[tuple[str, Mapping[str, Any]], ...]

    @classmethod
    def read(cls, cfg: Any) -> JobSettings:
        """Reads a whole config without building anything."""
        runner, scope = cfg.get('runner_type'), cfg.get('default_scope')
        return cls(
            flags=(*_named_flags(cfg), *_flags_as_texts(cfg, scope)),
            log_level=cfg.get('log_level', 'INFO'),
            runner=runner,
            runner_kind=resolve_type(dict(type=runner), RUNNERS, scope),
            names=tuple((key, str(name)) for key in _KEYS if isinstance(cfg.get(key), Mapping) for name in cfg[key]),
            custom_hooks=cfg.get('custom_hooks') or (),
            default_hooks=cfg.get('default_hooks') or {},
            nms=tuple(
                (place, node) for place, node in named_nodes('model', cfg.get('model')) if place.endswith('.nms')
            ),
        )

    def check(self) -> None:
        """Raises for settings that mmengine or mmdet would ignore, misread, or fail on later.

        Raises:
            DetNASError: If there are any. The message gives the key, the value and what is allowed.
        """
        level = self.log_level if isinstance(self.log_level, int) else logging.getLevelName(self.log_level)
        if isinstance(self.log_level, bool) or not isinstance(level, int):
            raise DetNASError(f'log_level must be one of {", ".join(_LEVELS)}; got {self.log_level!r}.')
        refuse_unknown_type('runner_type', self.runner, RUNNERS)
        if self.runner is not None and self.runner_kind is not Runner:
            raise DetNASError(
                f"runner_type={self.runner!r} is not supported by the tools of this package, which use mmengine's "
                f'Runner: '
                f'leave it out.'
            )
        for place, value in self.flags:
            flag(place, value)
        for key, name in self.names:
            near = [] if name in _KEYS[key] else get_close_matches(name, _KEYS[key], 1)
            if near:
                raise DetNASError(f'{key}.{name} is not a setting of mmengine; did you mean {key}.{near[0]}?')
        _check_hooks(self.custom_hooks, self.default_hooks)
        for place, node in self.nms:
            _check_nms(place, node)


def _check_hooks(custom: Any, default: Any) -> None:
    """Raises for hooks without a type, such as a default hook whose name is misspelt."""
    if not isinstance(custom, Sequence) or isinstance(custom, str):
        raise DetNASError(f"custom_hooks must be a list, such as [dict(type='EMAHook')]; got {custom!r:.200}.")
    if not isinstance(default, Mapping):
        raise DetNASError(
            f"default_hooks must be a dict by name, such as dict(timer=dict(type='IterTimerHook')); got "
            f'{default!r:.200}.'
        )
    named = [(f'custom_hooks.{number}', hook) for number, hook in enumerate(custom)]
    named += [(f'default_hooks.{name}', hook) for name, hook in default.items()]
    for place, hook in named:
        name = place.partition('.')[2]
        if isinstance(hook, Hook) or (isinstance(hook, Mapping) and hook.get('type')):
            continue
        if hook is None and name in _DEFAULT_HOOKS:
            continue
        near = get_close_matches(name, [other for other in (*_DEFAULT_HOOKS, *default) if other != name], 1)
        advice = f'; did you mean default_hooks.{near[0]}?' if near and place.startswith('default') else '.'
        raise DetNASError(
            f"{place} must be a hook with a type, such as dict(type='EMAHook'); got {hook!r:.200}{advice}"
        )


def _named_flags(cfg: Any) -> Iterator[tuple[str, Any]]:
    """Yields values that mmengine uses as True or False, whatever their type, with their places."""
    for key in _FLAGS:
        part, _, name = key.rpartition('.')
        node = cfg.get(part) if part else {name: cfg.get(name)}
        if isinstance(node, Mapping) and node.get(name) is not None:
            yield key, node[name]


def _flags_as_texts(cfg: Any, scope: str | None) -> Iterator[tuple[str, str]]:
    """Yields strings given for Boolean arguments, with their places: any string would count as True."""
    for node in nodes(cfg.to_dict() if hasattr(cfg, 'to_dict') else cfg):
        texts = {key: value for key, value in node.items() if isinstance(value, str) and key != 'type'}
        if 'type' not in node or not texts:
            continue
        found = (resolve_type(node, registry, scope) for registry in _REGISTRIES)
        kind = next((one for one in found if inspect.isclass(one)), None)
        for name in sorted(texts.keys() & set(_flags(kind))):
            yield f'{type_name(kind)}.{name}', texts[name]


def _flags(kind: Any) -> Iterator[str]:
    """Yields the names of a class's Boolean arguments, and of its bases' if it passes its own on."""
    seen: set[str] = set()
    for base in kind.__mro__ if inspect.isclass(kind) else ():
        init = vars(base).get('__init__')
        if not inspect.isfunction(init):
            continue
        arguments = inspect.signature(init).parameters.values()
        yield from (one.name for one in arguments if one.annotation in (bool, 'bool') and one.name not in seen)
        seen |= {one.name for one in arguments}
        if not any(one.kind is one.VAR_KEYWORD for one in arguments):
            return


def _check_nms(place: str, cfg: Mapping[str, Any]) -> None:
    name = cfg.get('type', 'nms')
    if not isinstance(name, str):
        return
    known = [one for one in _NMS if hasattr(ops, one)]
    if name not in known:
        raise DetNASError(f'{place}.type must be one of {", ".join(known)} (NMS functions of mmcv.ops); got {name!r}.')
    refusal = unknown_arguments(getattr(ops, name), {key: 0 for key in cfg if key not in _NMS_ALWAYS})
    if refusal:
        raise DetNASError(f'{place}: {refusal}')
