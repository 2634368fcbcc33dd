"""Model configs that train from random weights: group normalisation and weight standardisation. No torch."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from detnas_mm.checks import keyed
from detnas_mm.config_types import named_nodes, nodes
from detnas_mm.errors import DetNASError
from detnas_mm.systems.sm_nas.factors import plain

#: Norm and convolution of the recipe; see :mod:`detnas_mm.models.norms`.
NORM = dict(type='detnas_mm.GroupNorm', requires_grad=True)
CONV = dict(type='detnas_mm.StandardizedConv2d')
#: Arguments of the recipe that some types do not accept: they have no norm, or build convolutions without a config.
NOT_TAKEN: dict[str, tuple[str, ...]] = {
    'AnchorHead': ('norm_cfg', 'conv_cfg'),
    'BBoxHead': ('norm_cfg', 'conv_cfg'),
    'DilatedBackbone': ('conv_cfg',),
    'GARPNHead': ('norm_cfg', 'conv_cfg'),
    'GuidedAnchorHead': ('norm_cfg', 'conv_cfg'),
    'RPNHead': ('norm_cfg', 'conv_cfg'),
}
#: Types of mmdet that do not accept ``conv_cfg``, with those of this package that do and are equal otherwise.
_STANDARDISED = {'ResLayer': 'detnas_mm.ResLayer'}
#: Arguments of the recipe in necks and heads.
_LAYERS = {'norm_cfg', 'conv_cfg'}
#: Settings that can freeze parts of a detector, with the values that freeze nothing.
_FREE: dict[str, Any] = dict(norm_eval=False, frozen_stages=-1, requires_grad=True)
#: Keys of a detector's parts with norms.
_PARTS = ('backbone', 'neck', 'rpn_head', 'bbox_head', 'mask_head', 'shared_head')
#: Those with pre-trained weights, which have ``norm_eval`` and ``frozen_stages``.
_PRETRAINED = ('backbone', 'shared_head')


def from_scratch(
    model: Mapping[str, Any],
    norm_cfg: Mapping[str, Any] | None = None,
    conv_cfg: Mapping[str, Any] | None = None,
    not_taken: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Returns a model config that trains from random weights (Yao et al., SM-NAS, AAAI 2020, section 4).

    Sets norm and convolutions of backbone, neck and heads, ``norm_eval=False`` and ``frozen_stages=-1``, and removes
    pre-trained weights. Other initialisations stay.

    Args:
        model: Model config of any detector; it is not changed.
        norm_cfg: mmcv's norm config. Defaults to :data:`NORM`, 32 groups; in ``SMNASBackbone``, unless ``norm_cfg`` has
            ``num_groups``, the groups are half the base channels, as published.
        conv_cfg: mmcv's config of convolutions. Defaults to :data:`CONV`.
        not_taken: Arguments out of ``norm_cfg``, ``conv_cfg`` and ``norm_eval`` that types do not accept, by type, such
            as ``{'MyNet': ['conv_cfg']}``; in addition to :data:`NOT_TAKEN`.

    Raises:
        DetNASError: If a config is no dict.
    """
    for name, value in dict(model=model, norm_cfg=norm_cfg, conv_cfg=conv_cfg, not_taken=not_taken).items():
        if not isinstance(value, Mapping) and (value is not None or name == 'model'):
            raise DetNASError(f'{name} of the recipe from scratch must be a dict; got {value!r:.200}.')
    found = _without_weights(copy.deepcopy(dict(model)))
    layers = dict(norm_cfg=dict(norm_cfg or NORM), conv_cfg=dict(conv_cfg or CONV))
    missing = {name: (*NOT_TAKEN.get(name, ()), *own) for name, own in (not_taken or {}).items()}
    _change(found, layers, {**NOT_TAKEN, **missing})
    return found


def frozen_settings(model: Mapping[str, Any]) -> list[str]:
    """Returns the settings by which a model config freezes parts, such as ``'backbone.norm_eval=True'``.

    These are ``norm_eval=True``, ``frozen_stages`` of 0 or more, and ``requires_grad=False`` of a norm.

    Args:
        model: Model config of any detector, as nested dicts.
    """
    found = []
    for place, node in named_nodes('', model):
        found += [f'{place}.{key}={node[key]}'.lstrip('.') for key in _FREE if _freezes(key, node.get(key))]
    return found


def unfrozen(model: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a model config that trains from random weights with its own norms and convolutions.

    Removes pre-trained weights, and the settings of :func:`frozen_settings`: frozen parts would stay random.

    Args:
        model: Model config of any detector, as nested dicts; it is not changed.
    """
    found: dict[str, Any] = _without_weights(copy.deepcopy(dict(model)))
    for node in nodes(found):
        node.update({key: free for key, free in _FREE.items() if _freezes(key, node.get(key))})
    return found


def _freezes(key: str, value: Any) -> bool:
    if key == 'frozen_stages':
        return type(value) is int and value >= 0
    return value is not None and value is not _FREE[key]


def _change(model: dict[str, Any], layers: dict[str, Any], not_taken: Mapping[str, Sequence[str]]) -> None:
    """Applies the recipe to the parts of a detector, or of its RoI head, in place."""
    for key in _PARTS:
        parts = model.get(key)
        for part in parts if isinstance(parts, (list, tuple)) else [parts]:
            if isinstance(part, dict):
                name = _name(part)
                settings = copy.deepcopy(layers)
                if key in _PRETRAINED:
                    settings['norm_eval'] = False
                    if 'frozen_stages' in part:
                        part['frozen_stages'] = -1
                if name == 'SMNASBackbone' and _name(settings['norm_cfg']) == 'GroupNorm':
                    settings['norm_cfg'].setdefault('num_groups', part.get('base', 64) // 2)
                taken = {key: value for key, value in settings.items() if key not in not_taken.get(name, ())}
                if 'conv_cfg' in taken:
                    part['type'] = _STANDARDISED.get(name, part.get('type'))
                part.update(taken)
    if isinstance(model.get('roi_head'), dict):
        _change(model['roi_head'], layers, not_taken)


def _name(cfg: Mapping[str, Any]) -> str:
    """Returns the name of a config's type without its scope; '' if it has no type."""
    kind = cfg.get('type', '')
    return kind.rpartition('.')[2] if isinstance(kind, str) else getattr(kind, '__name__', '')


def _is_weights(value: Any) -> bool:
    return isinstance(value, Mapping) and _name(value) in ('Pretrained', 'PretrainedInit')


def _without_weights(cfg: Any) -> Any:
    """Removes pre-trained weights from a config at any depth."""
    if isinstance(cfg, dict):
        for key in list(cfg):
            if key == 'init_cfg' and isinstance(cfg[key], (list, tuple)):
                cfg[key] = [one for one in cfg[key] if not _is_weights(one)]
            if (key == 'init_cfg' and (_is_weights(cfg[key]) or cfg[key] == [])) or key == 'pretrained':
                del cfg[key]
            else:
                cfg[key] = _without_weights(cfg[key])
    elif isinstance(cfg, (list, tuple)):
        return type(cfg)(_without_weights(one) for one in cfg)
    return cfg


def read_recipe(where: str, given: Any) -> dict[str, Any] | None:
    """Reads ``recipe`` of a space; returns arguments of :func:`from_scratch`, or None.

    Args:
        where: Key in the config, for messages.
        given: None, ``'from_scratch'``, or a dict of ``norm_cfg`` and ``conv_cfg``.

    Raises:
        DetNASError: If it is something else.
    """
    if given is not None and not isinstance(given, Mapping) and given != 'from_scratch':
        raise DetNASError(f"{where} must be None, a dict or 'from_scratch'; got {given!r}.")
    if given is None:
        return None
    recipe: dict[str, Any] = {} if given == 'from_scratch' else plain(given)
    found = keyed(where, recipe, ('norm_cfg', 'conv_cfg'), "dict(norm_cfg=dict(type='…'))")
    for name, value in found.items():
        if not isinstance(value, dict) or 'type' not in value:  # None would be the recipe's own, not mmdet's default
            raise DetNASError(
                f"{where}.{name} must be a dict with a type, such as norm_cfg=dict(type='BN') or "
                f"conv_cfg=dict(type='Conv2d') for ordinary convolutions; got {value!r}."
            )
    return found


def read_not_taken(given: Any) -> dict[str, list[str]]:
    """Reads ``search.space.not_taken``: arguments of the recipe that types do not accept.

    Raises:
        DetNASError: If it is no dict of lists of ``norm_cfg`` and ``conv_cfg``.
    """
    found: Any = plain(given or {})
    if not isinstance(found, dict) or not all(isinstance(one, list) and set(one) <= _LAYERS for one in found.values()):
        raise DetNASError(
            f"search.space.not_taken must list norm_cfg, conv_cfg or both by type, as in {{'MyNeck': ['conv_cfg']}}; "
            f'got {given!r}.'
        )
    return found
