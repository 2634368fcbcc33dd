"""Building the model of a whole config without a Runner, and its weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from detnas_mm.errors import DetNASError, expected_errors


def build_model(cfg: Any) -> nn.Module:
    """Builds the model of a config as mmengine's Runner does, on the CPU and with plain BN.

    mmpretrain's configs keep their ``data_preprocessor`` beside the model; without it images would enter unscaled.

    Args:
        cfg: An mmengine config with ``model``, and if wanted ``data_preprocessor`` and ``default_scope``.

    Raises:
        DetNASError: If a constructor raises a ValueError.
    """
    model = copy.deepcopy(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', copy.deepcopy(cfg.data_preprocessor))
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')), expected_errors():
        return revert_sync_batchnorm(MODELS.build(model))


def checked_weights(model: nn.Module, checkpoint: Mapping[str, Any], name: Any) -> dict[str, Any]:
    """A checkpoint's weights, if they are all that a model has; what it does not have is left out.

    Args:
        model: The model, not wrapped.
        checkpoint: What the file holds.
        name: Of the file, for the message.

    Raises:
        ValueError: If weights of the model are missing in it, or have another shape there.
    """
    found = checkpoint.get('state_dict', checkpoint)
    found = {key.removeprefix('module.'): value for key, value in found.items()}
    wanted = {key: value.shape for key, value in model.state_dict().items()}
    missing = [key for key, shape in wanted.items() if getattr(found.get(key), 'shape', None) != shape]
    if missing:
        there = found.get(missing[-1])
        shape = '' if there is None else f' ({tuple(there.shape)} there, {tuple(wanted[missing[-1]])} here)'
        raise DetNASError(
            f'{name} lacks {len(missing)} of the {len(wanted)} tensors of this model, such as {missing[-1]}{shape}: '
            f'they would be random. Give the supernet that was trained in this very model, not one that was trained '
            f'in another before.'
        )
    return {key: found[key] for key in wanted}
