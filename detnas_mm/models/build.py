"""Building the model of a whole config without a Runner."""

from __future__ import annotations

import copy
from typing import Any

from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import nn


def build_model(cfg: Any) -> nn.Module:
    """Builds the model of a config as mmengine's Runner does, on the CPU and with plain BN.

    mmpretrain's configs keep their ``data_preprocessor`` beside the model; without it images would enter unscaled.

    Args:
        cfg: An mmengine config with ``model``, and if wanted ``data_preprocessor`` and ``default_scope``.
    """
    model = copy.deepcopy(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', copy.deepcopy(cfg.data_preprocessor))
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        return revert_sync_batchnorm(MODELS.build(model))
