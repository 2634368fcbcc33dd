"""Detectors that train from random weights: GN and standardised weights in any model config (no torch)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from detnas_mm.errors import DetNASError

#: Norm and convolution of the recipe; see :mod:`detnas_mm.models.norms`.
NORM = dict(type='detnas_mm.GroupNorm', requires_grad=True)
CONV = dict(type='detnas_mm.StandardizedConv2d')
#: Settings of the recipe that some types do not take: they have no norm, or build their convolutions without a config.
NOT_TAKEN: dict[str, tuple[str, ...]] = {
    'AnchorHead': ('norm_cfg', 'conv_cfg'),
    'BBoxHead': ('norm_cfg', 'conv_cfg'),
    'DilatedBackbone': ('conv_cfg',),
    'GARPNHead': ('norm_cfg', 'conv_cfg'),
    'GuidedAnchorHead': ('norm_cfg', 'conv_cfg'),
    'RPNHead': ('norm_cfg', 'conv_cfg'),
    'ResLayer': ('conv_cfg',),
}
#: Where a detector has parts with norms.
_PARTS = ('backbone', 'neck', 'rpn_head', 'bbox_head', 'mask_head', 'shared_head')
#: Those whose norms a pre-trained detector keeps in evaluation mode, and whose first stages it freezes.
_PRETRAINED = ('backbone', 'shared_head')


def from_scratch(
    model: Mapping[str, Any],
    norm_cfg: Mapping[str, Any] | None = None,
    conv_cfg: Mapping[str, Any] | None = None,
    not_taken: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Returns a model config that trains from random weights (Yao et al., SM-NAS, AAAI 2020, section 4).

    Backbone, neck and heads have the norm and the convolutions of the recipe, no norm stays in evaluation mode, no
    stage is frozen, and no pre-trained weights are named. Other initialisations stay.

    Args:
        model: Of any detector; it is not changed.
        norm_cfg: mmcv's norm config. Defaults to :data:`NORM`, 32 groups; in ``SMNASBackbone``, unless it says
            ``num_groups`` itself, half as many as base channels, as published.
        conv_cfg: mmcv's config of convolutions. Defaults to :data:`CONV`.
        not_taken: By name of types, which of ``norm_cfg``, ``conv_cfg`` and ``norm_eval`` they do not take, as in
            ``{'MyNet': ['conv_cfg']}``; beside :data:`NOT_TAKEN`.

    Raises:
        DetNASError: If a config is no dict.
    """
    for name, value in dict(model=model, norm_cfg=norm_cfg, conv_cfg=conv_cfg, not_taken=not_taken).items():
        if not isinstance(value, Mapping) and (value is not None or name == 'model'):
            raise DetNASError(f'{name} of the recipe from scratch must be a dict; got {value!r:.200}.')
    found = _without_weights(copy.deepcopy(dict(model)))
    layers = dict(norm_cfg=dict(norm_cfg or NORM), conv_cfg=dict(conv_cfg or CONV))
    _change(found, layers, {**NOT_TAKEN, **(not_taken or {})})
    return found


def _change(model: dict[str, Any], layers: dict[str, Any], not_taken: Mapping[str, Sequence[str]]) -> None:
    """Changes the parts of a detector, or of its RoI head, in place."""
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
                part.update({key: value for key, value in settings.items() if key not in not_taken.get(name, ())})
    if isinstance(model.get('roi_head'), dict):
        _change(model['roi_head'], layers, not_taken)


def _name(cfg: Mapping[str, Any]) -> str:
    """Name of a config's type without its scope; '' without one."""
    kind = cfg.get('type', '')
    return kind.rpartition('.')[2] if isinstance(kind, str) else getattr(kind, '__name__', '')


def _is_weights(value: Any) -> bool:
    return isinstance(value, Mapping) and _name(value) in ('Pretrained', 'PretrainedInit')


def _without_weights(cfg: Any) -> Any:
    """A config, any depth, that names no pre-trained weights."""
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
