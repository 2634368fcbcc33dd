"""Putting a backbone into a config of mmdet or mmpretrain."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from detnas_mm.errors import DetNASError

#: Settings that backbones of mmdet, mmpretrain and this package have in common, with one meaning.
COMMON_SETTINGS = ('out_indices', 'norm_cfg', 'conv_cfg', 'frozen_stages', 'norm_eval', 'with_cp', 'init_cfg')
#: Parts of a model that follow the backbone, the first one first, if they have ``in_channels``.
_FOLLOWERS = ('neck', 'head', 'bbox_head', 'rpn_head')


def replace_backbone(
    cfg: Mapping[str, Any],
    backbone: Mapping[str, Any],
    channels: Sequence[int],
    settings: Sequence[str] = COMMON_SETTINGS,
    last: int | None = None,
) -> dict[str, Any]:
    """Returns a copy of a config in which another backbone stands, and what follows it has its channels.

    Args:
        cfg: A config of mmdet or mmpretrain, as nested dicts; left as it is. Without a model the backbone comes out
            alone.
        backbone: Type, architecture and what else of the new backbone the architecture decides.
        channels: Of every stage that the backbone can return.
        settings: Names of settings of the config's backbone that the new one takes over. An ``init_cfg`` that loads a
            checkpoint is left out, of the whole model too: it is of another net.
        last: Channels of an output beyond the stages, which comes last; None where there is none.

    Raises:
        DetNASError: If the config's model has no backbone, or a RoI head without a neck, or asks for a stage that the
            new one does not have.
    """
    out, new = copy.deepcopy(dict(cfg)), copy.deepcopy(dict(backbone))
    if not out.get('model'):
        return dict(model=dict(backbone=new))
    model = out['model']
    own = model.get('backbone')
    if not own:
        raise DetNASError(
            f'model of the config is of type {model.get("type")!r} and has no backbone to be replaced; it has '
            f'{", ".join(model)}. Give a config whose model has one.'
        )
    if 'roi_head' in model and not model.get('neck'):
        raise DetNASError(
            'model of the config has a RoI head and no neck, whose channels do not follow from those of the backbone. '
            'Give a config with a neck, such as FPN.'
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
            f'model.backbone.out_indices of the config is {given}, and backbones of this space have {len(channels)} '
            f'stages, counted from 0. Change it, or search.space.'
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
    """Whether an ``init_cfg``, one dict or several, loads a checkpoint."""
    parts = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
    return any('checkpoint' in part for part in parts if part)
