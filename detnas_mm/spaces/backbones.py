"""Replaces the backbone of a config of mmdet or mmpretrain."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from detnas_mm.errors import DetNASError

#: Settings that backbones of mmdet, mmpretrain and this package share, with the same meaning.
COMMON_SETTINGS = ('out_indices', 'norm_cfg', 'conv_cfg', 'frozen_stages', 'norm_eval', 'with_cp', 'init_cfg')
#: Parts of a model that may take the backbone's outputs, in this order: the first with ``in_channels`` does.
_FOLLOWERS = ('neck', 'head', 'bbox_head', 'rpn_head')


def replace_backbone(
    cfg: Mapping[str, Any],
    backbone: Mapping[str, Any],
    channels: Sequence[int],
    settings: Sequence[str] = COMMON_SETTINGS,
    last: int | None = None,
) -> dict[str, Any]:
    """Returns a copy of a config with another backbone; ``in_channels`` of the next part are set to match.

    Args:
        cfg: A config of mmdet or mmpretrain, as nested dicts; it is not changed. Without a model the result holds the
            backbone alone.
        backbone: Settings of the new backbone: its type, its architecture and whatever follows from these.
        channels: Output channels of each stage of the new backbone.
        settings: Names of the settings that the new backbone keeps from the config's own. An ``init_cfg`` that loads a
            checkpoint is removed, from the whole model too, since its weights belong to another net.
        last: Channels of one more output after the stages; None if there is none.

    Raises:
        DetNASError: If the config's model has no backbone, has a RoI head without a neck, or uses a stage that the new
            backbone does not have.
    """
    out, new = copy.deepcopy(dict(cfg)), copy.deepcopy(dict(backbone))
    if not out.get('model'):
        return dict(model=dict(backbone=new))
    model = out['model']
    own = model.get('backbone')
    if not own:
        raise DetNASError(
            f'model of the config is of type {model.get("type")!r} and has no backbone to replace; its parts are '
            f'{", ".join(model)}. Use a config whose model has a backbone.'
        )
    if 'roi_head' in model and not model.get('neck'):
        raise DetNASError(
            'model of the config has a RoI head but no neck, so its input channels cannot be set from the backbone. '
            'Use a config with a neck, such as FPN.'
        )
    if _loads(model.get('init_cfg')):
        del model['init_cfg']
    model.pop('pretrained', None)
    kept = {name: own[name] for name in settings if name in own}
    if _loads(kept.get('init_cfg')):
        del kept['init_cfg']
    model['backbone'] = kept | new
    given = model['backbone'].get('out_indices')
    indices = list(range(len(channels))) if given is None else [given] if isinstance(given, int) else list(given)
    if not set(indices) <= set(range(len(channels))):
        raise DetNASError(
            f'model.backbone.out_indices of the config is {given!r}, but backbones of this space have {len(channels)} '
            f'stages: use numbers from 0 to {len(channels) - 1}, or another search.space.'
        )
    outputs = [channels[i] for i in indices] + ([] if last is None else [last])
    for name in _FOLLOWERS:
        parts = model.get(name) or {}
        part = parts[0] if isinstance(parts, (list, tuple)) else parts
        if part.get('in_channels') is not None:
            several = isinstance(part['in_channels'], (list, tuple))
            part['in_channels'] = outputs if several else outputs[-1]
            break
    return out


def _loads(init_cfg: Any) -> bool:
    """Returns True if an ``init_cfg``, one dict or several, loads a checkpoint."""
    parts = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
    return any('checkpoint' in part for part in parts if part)
