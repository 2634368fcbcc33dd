"""Sorts the channels of exported nets, and of the pre-trained weights that such a net is retrained from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor

from detnas_mm.checkpoints import WRAPPERS, load_checkpoint_file, weights_in
from detnas_mm.config_types import is_other
from detnas_mm.files import replacing
from detnas_mm.registry import MODELS
from detnas_mm.systems.nats.channel_order import MARK
from detnas_mm.systems.nats.sorting import checkpoint_of, sort_model


@MODELS.register_module()
def sort_dilations(
    cfg: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> tuple[dict[str, Any], Mapping[str, Tensor], dict[str, str], str]:
    """Sorts the channels of a found net so that equal dilations are contiguous.

    Args:
        cfg: Its config, whose ``model.backbone`` is a ``DilatedBackbone``.
        weights: Weights of the whole model.

    Returns:
        (config, weights, entries for the checkpoint's ``meta``, line to log).

    Raises:
        DetNASError: See :func:`sort_model`.
    """
    new, done = sort_model(cfg, weights)
    line = f'Channels sorted by dilation in {len(done.moved)} convolutions; {len(done.left)} left in place'
    reasons = '; '.join(f'{name} ({reason})' for name, reason in done.left.items())
    return new, done.state_dict, {MARK: done.genotypes}, f'{line}: {reasons}.' if reasons else f'{line}.'


def initial_weights(backbone: Mapping[str, Any]) -> Any:
    """Returns the ``init_cfg`` of a backbone, or one of its ``pretrained`` weights; None without either."""
    if backbone.get('pretrained'):
        return dict(type='Pretrained', checkpoint=backbone['pretrained'])
    return backbone.get('init_cfg')


def load_pretrained(init: Any, trust: bool = False) -> dict[str, Tensor] | None:
    """Returns the pre-trained weights of a backbone, without prefix; None if it starts from no checkpoint.

    Args:
        init: Its ``init_cfg``, see :func:`initial_weights`.
        trust: Whether the checkpoint may contain more than tensors.

    Raises:
        DetNASError: If the checkpoint is missing or has no weights.
    """
    several = init if isinstance(init, (list, tuple)) else [init]
    found = next((one for one in several if is_other(one, 'Pretrained')), None)
    if found is None:
        return None
    path, prefix = str(found['checkpoint']), found.get('prefix') or ''
    prefix = WRAPPERS.sub('', prefix if not prefix or prefix.endswith('.') else f'{prefix}.')
    file = CheckpointLoader.load_checkpoint(path, 'cpu') if '://' in path else load_checkpoint_file(path, trust)
    weights = weights_in(file, path)
    return {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}


def is_sorted(config: Path) -> bool:
    """Returns True if the net of an exported config has sorted channels."""
    return Config.fromfile(config).model.backbone.get('channel_order') == 'sorted'


def write_sorted_start(found: Mapping[str, Any], config: Path, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Writes pre-trained weights in the channel order of an exported net, beside its config.

    Args:
        found: A config with the found net, its channels in place.
        config: Path of the exported config.
        weights: Pre-trained weights of the plain backbone.

    Returns:
        ``init_cfg`` of a backbone that starts from them.
    """
    path = config.with_name(f'{config.stem}_pretrained.pth')
    new, done = sort_model(found, weights, str(path.absolute()))
    with replacing(path) as draft:
        torch.save(checkpoint_of(done, {}), draft)
    init: dict[str, Any] = new['model']['backbone']['init_cfg']
    return init
