"""Reads the table of factors of a config, and merges parts of model configs."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from detnas_mm.checks import flag, keyed, listed, whole
from detnas_mm.errors import DetNASError
from detnas_mm.systems.sm_nas.conditions import (
    FACTORS,
    check_patterns,
    condition_of,
    matches,
    read_fragment,
    read_patterns,
)
from detnas_mm.systems.sm_nas.reference import reference_factors

_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_-]*')
_COMMON = ('model', 'needs', 'when')
#: Keys that values of a factor may have besides ``base``.
_KEYS = dict(
    size=('scale', *_COMMON),
    backbone=('channels', 'strides', 'out_indices', 'cuts', 'shared_head', 'not_taken', 'unread', *_COMMON),
    neck=('strides', 'not_taken', 'unread', *_COMMON),
    rpn=('not_taken', *_COMMON),
    head=('not_taken', *_COMMON),
)
_PARTS = ('backbone', 'neck', 'rpn_head', 'bbox_head', 'roi_head')
#: Arguments that are set in parts of a detector, by a recipe from scratch or since they are derived.
_LAYERS = ('norm_cfg', 'conv_cfg')
_SET = dict(backbone=(*_LAYERS, 'norm_eval', 'out_indices'), neck=(*_LAYERS, 'num_outs'), rpn=_LAYERS, head=_LAYERS)
_EXAMPLES = dict(
    size="{'800x600': dict(scale=(800, 600))}",
    backbone="dict(mine=dict(model=dict(backbone=dict(type='…')), channels=(64, 128), strides=(8, 16)))",
    neck="{'fpn-p2-p5-256': dict(model=dict(neck=dict(type='FPN', out_channels=256)), strides=(8, 64))}",
    rpn="dict(rpn=dict(model=dict(rpn_head=dict(type='RPNHead', …))))",
    head="dict(retinanet=dict(model=dict(type='RetinaNet', bbox_head=dict(…)), needs=dict(rpn='none')))",
)


@dataclass(frozen=True)
class Value:
    """A value of a factor.

    Attributes:
        factor: One of :data:`FACTORS`.
        name: Its name in the table.
        data: Its settings, in plain lists and dicts.
    """

    factor: str
    name: str
    data: dict[str, Any] = field(hash=False)

    @property
    def title(self) -> str:
        """Factor and name, for messages."""
        return f'{self.factor} {self.name!r}'

    @property
    def model(self) -> dict[str, Any]:
        """Its part of the model config."""
        return self.data.get('model') or {}

    @property
    def not_taken(self) -> list[str]:
        """Arguments that its type does not accept, although they are set."""
        return self.data.get('not_taken') or []

    @property
    def unread(self) -> bool:
        """True if it may have parts on which no feature map depends, such as layers after the last one returned."""
        return bool(self.data.get('unread'))

    @property
    def needs(self) -> dict[str, list[str]]:
        """Patterns of the values that it may be combined with, by factor."""
        return self.data.get('needs') or {}

    @property
    def outputs(self) -> list[tuple[int, int, int]]:
        """Of a backbone: (index, channels, stride) of each feature map that it can return."""
        return list(zip(self.data['out_indices'], self.data['channels'], self.data['strides'], strict=True))

    def fragments(self, names: Mapping[str, str]) -> list[dict[str, Any]]:
        """Returns the parts of the model config in ``when`` that apply to a combination.

        Args:
            names: Names of its values by factor.
        """
        return [
            one['model']
            for one in self.data.get('when') or ()
            if all(matches(names[factor], patterns) for factor, patterns in condition_of(one).items())
        ]


def merged(base: Any, change: Any) -> Any:
    """Merges a change into a part of a config as mmengine does, and into lists of dicts as well.

    Args:
        base: The part; it is not changed.
        change: A dict changes the keys that it has; with ``_delete_=True`` it replaces ``base``. If ``base`` is a list
            of dicts, a dict changes each of them, and a list of equally many dicts changes one after the other.
            Anything else replaces ``base``.
    """
    if isinstance(change, Mapping) and not change.get('_delete_'):
        if isinstance(base, Mapping):
            out = copy.deepcopy(dict(base))
            for key, value in change.items():
                out[key] = merged(out.get(key), value)
            return out
        if _dicts(base):
            return [merged(one, change) for one in base]
    if _dicts(base) and _dicts(change) and len(base) == len(change):
        return [merged(one, other) for one, other in zip(base, change, strict=True)]
    return _without_deletes(change)


def _dicts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _without_deletes(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_deletes(one) for key, one in value.items() if key != '_delete_'}
    return [_without_deletes(one) for one in value] if isinstance(value, (list, tuple)) else value


def plain(value: Any) -> Any:
    """Converts tuples to lists and mappings to dicts, as in JSON."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def read_factors(given: Mapping[str, Any] | None) -> dict[str, dict[str, Value]]:
    """Reads a table of factors; the outputs of backbones may still be missing in what it returns.

    Args:
        given: See ``factors`` of :class:`~detnas_mm.systems.sm_nas.space.StructuralSpace`.

    Raises:
        DetNASError: If a setting is unknown or does not fit; names the factor and the value.
    """
    given = {} if given is None else keyed('search.space.factors', given, FACTORS, f'dict(head={_EXAMPLES["head"]})')
    reference = reference_factors()
    table = {factor: _read_factor(factor, given.get(factor), reference[factor]) for factor in FACTORS}
    check_patterns(table)
    return table


def _read_factor(factor: str, given: Any, reference: Mapping[str, Any]) -> dict[str, Value]:
    where = f'search.space.factors.{factor}'
    if given is None:
        given = dict.fromkeys(reference)
        given = {name: name for name in given}
    elif isinstance(given, (list, tuple)):
        given = {str(name): name for name in given}
    if not isinstance(given, Mapping):
        raise DetNASError(
            f'{where} must be a dict by name, such as {_EXAMPLES[factor]}, or a list of these names: '
            f'{", ".join(reference)}; got {given!r}.'
        )
    out = {}
    for name, settings in given.items():
        if settings is None:
            continue
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise DetNASError(f"{where}: a name may have letters, digits, '-' and '_'; got {name!r}.")
        out[name] = _read_value(factor, name, settings, reference)
    if not out:
        raise DetNASError(f'{where} has no value; give at least one, such as {_EXAMPLES[factor]}.')
    return out


def _read_value(factor: str, name: str, settings: Any, reference: Mapping[str, Any]) -> Value:
    where = f'search.space.factors.{factor}.{name}'
    if isinstance(settings, str):
        settings = dict(base=settings)
    keys = ('base', *_KEYS[factor])
    settings = plain(keyed(where, settings, keys, _EXAMPLES[factor]))
    base = settings.pop('base', None)
    if base is not None:
        if not isinstance(base, str) or base not in reference:
            raise DetNASError(f'{where}: {base!r} is not a value of the paper; these are {", ".join(reference)}.')
        own = settings.pop('when', None) or []
        settings = _based(plain(reference[base]), settings)
        settings['when'] = [*(settings.get('when') or []), *listed(f'{where}.when', own, '[]')]
    for key in ('model', 'needs', 'cuts', 'shared_head'):
        if not isinstance(settings.get(key) or {}, dict):
            raise DetNASError(f'{where}.{key} must be a dict; got {settings[key]!r}.')
    for part in _PARTS:
        if part in (settings.get('model') or {}) and not isinstance(settings['model'][part], dict):
            raise DetNASError(f'{where}.model.{part} must be a dict; got {settings["model"][part]!r}.')
    data = {key: _without_deletes(one) if key not in ('model', 'when') else one for key, one in settings.items()}
    data['needs'] = {key: read_patterns(f'{where}.needs.{key}', one) for key, one in (data.get('needs') or {}).items()}
    data['when'] = [
        read_fragment(f'{where}.when', one) for one in listed(f'{where}.when', data.get('when') or [], '[]')
    ]
    missing = listed(f'{where}.not_taken', data.get('not_taken') or [], "['conv_cfg']")
    if any(one not in _SET.get(factor, ()) for one in missing):
        raise DetNASError(f'{where}.not_taken must be some of {", ".join(_SET[factor])}; got {missing}.')
    flag(f'{where}.unread', data.get('unread', False))
    value = Value(factor, name, data)
    {'size': _check_size, 'backbone': _check_backbone, 'neck': _check_neck, 'head': _check_head}.get(
        factor, lambda where, value: None
    )(where, value)
    return value


def _based(base: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Returns a value of the paper with changes, also in the shared head, which is a stage of the backbone.

    Unless the changes have a ``shared_head``, settings of the backbone that it has too, such as ``style``, ``norm_cfg``
    and the weights, are changed in both.
    """
    out: dict[str, Any] = merged(base, settings)
    model = settings.get('model')
    changed = model.get('backbone') if isinstance(model, dict) else None
    if base.get('shared_head') and 'shared_head' not in settings and isinstance(changed, dict):
        both = [key for key in changed if key in base['shared_head'] and key != 'type']
        out['shared_head'] |= {key: copy.deepcopy(out['model']['backbone'][key]) for key in both}
    return out


def _pair(where: str, given: Any, example: str) -> list[int]:
    if not isinstance(given, list) or len(given) != 2:
        raise DetNASError(f'{where} must be two whole numbers, such as {example}; got {given!r}.')
    return [whole(where, one, 1) for one in given]


def _check_size(where: str, value: Value) -> None:
    _pair(f'{where}.scale', value.data.get('scale'), 'scale=(800, 600), width and height')


def _check_neck(where: str, value: Value) -> None:
    first, last = _pair(f'{where}.strides', value.data.get('strides'), 'strides=(8, 64), of the first and last map')
    neck = value.model.get('neck')
    if first > last or (last // first) & (last // first - 1) or last % first:
        raise DetNASError(f'{where}.strides must double from the first to the last; got {first} to {last}.')
    if neck is None and first != last:
        raise DetNASError(
            f'{where} has no model.neck, so that heads read one map of the backbone. Give its stride twice, such as '
            f'strides=(16, 16); got {first} to {last}.'
        )
    if neck is not None:
        if neck.get('out_channels') is None:
            raise DetNASError(f'{where}.model.neck needs out_channels, such as 256.')
        whole(f'{where}.model.neck.out_channels', neck['out_channels'], 1)
        if neck.get('in_channels') is not None:
            listed(f'{where}.model.neck.in_channels', neck['in_channels'], '(512, 1024, 2048)')


def _check_backbone(where: str, value: Value) -> None:
    if not isinstance(value.model.get('backbone'), dict) or 'type' not in value.model['backbone']:
        raise DetNASError(
            f"{where}.model must have a backbone with a type, such as dict(backbone=dict(type='ResNet'))."
        )
    data = value.data
    for stride, cut in (data.get('cuts') or {}).items():
        if not isinstance(cut, dict):
            raise DetNASError(
                f"{where}.cuts must have a dict of settings by stride, such as {{'16': dict(num_stages=3)}}; got "
                f'{cut!r} at {stride}.'
            )
    channels, strides = data.get('channels'), data.get('strides')
    if (channels is None) != (strides is None):
        raise DetNASError(
            f'{where}: give both channels and strides of its outputs, or neither; then it is built and run once.'
        )
    if channels is None:
        return
    for key in ('channels', 'strides'):
        data[key] = [whole(f'{where}.{key}', one, 1) for one in listed(f'{where}.{key}', data[key], '(64, 128)')]
    if data.get('out_indices') is None:
        data['out_indices'] = list(range(len(data['channels'])))
    for one in listed(f'{where}.out_indices', data['out_indices'], '(0, 1)'):
        whole(f'{where}.out_indices', one)
    if not len(data['channels']) == len(data['strides']) == len(set(data['out_indices'])) > 0:
        raise DetNASError(
            f'{where}: channels, strides and out_indices must have an entry for each output; got {channels}, {strides} '
            f'and {data["out_indices"]}.'
        )
    if data['strides'] != sorted(set(data['strides'])):
        raise DetNASError(f'{where}.strides must be increasing; got {strides}.')


def _check_head(where: str, value: Value) -> None:
    if ('bbox_head' in value.model) == ('roi_head' in value.model) or 'type' not in value.model:
        raise DetNASError(
            f'{where}.model must have type, that of the detector, and either bbox_head (one stage) or roi_head (two '
            f'stages); it has {", ".join(value.model) or "no key"}.'
        )
