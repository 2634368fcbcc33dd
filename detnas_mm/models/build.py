"""Building the model of a whole config without a Runner, and its weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from detnas_mm.checkpoints import weights_in
from detnas_mm.errors import DetNASError
from detnas_mm.models.backbone import Backbone
from detnas_mm.models.modes import kept_modes
from detnas_mm.models.supernet import Supernet
from detnas_mm.registry import building


@contextmanager
def without_memory() -> Iterator[None]:
    """Modules that are built inside have their parameters on the meta device: shapes alone.

    Unlike ``torch.device('meta')`` it leaves other tensors alone, of which constructors may ask values.
    """

    def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            parameter = nn.Parameter(parameter.to('meta'), requires_grad=parameter.requires_grad)
        own(module, name, parameter)

    own = nn.Module.register_parameter
    nn.Module.register_parameter = register
    try:
        yield
    finally:
        nn.Module.register_parameter = own


def build_model(cfg: Any) -> nn.Module:
    """Builds the model of a config as mmengine's Runner does, on the CPU and with plain BN.

    mmpretrain's configs keep their ``data_preprocessor`` beside the model; without it images would enter unscaled.

    Args:
        cfg: An mmengine config with ``model``, and if wanted ``data_preprocessor`` and ``default_scope``.

    Raises:
        DetNASError: If a type or an argument is unknown, or refused; see :func:`~detnas_mm.registry.building`.
    """
    model = copy.deepcopy(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', copy.deepcopy(cfg.data_preprocessor))
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')), building('model'):
        return revert_sync_batchnorm(MODELS.build(model))


@torch.no_grad()
def check_neck(model: nn.Module, neck: Any) -> None:
    """Holds the maps that a backbone of this package returns against those that the neck takes, and its against heads.

    Args:
        model: A detector or classifier, not wrapped, on the CPU or a GPU; its state is kept.
        neck: ``model.neck`` of its config; only necks that take a list of channels, such as ``FPN``, are looked at.

    Raises:
        DetNASError: If they differ; names both.
    """
    first = neck[0] if isinstance(neck, Sequence) and neck else neck
    wanted = first.get('in_channels') if isinstance(first, Mapping) else None
    backbone = getattr(model, 'backbone', None)
    if not isinstance(wanted, Sequence) or not isinstance(backbone, Backbone):
        return
    path = backbone.active_path if isinstance(backbone, Supernet) else None
    if isinstance(backbone, Supernet):
        backbone.set_path(backbone.space.sample(np.random.default_rng(0)))
    with kept_modes(model):
        model.eval()
        maps = backbone(next(backbone.parameters()).new_zeros(1, backbone.in_channels, 64, 64))
        levels = _levels(model, maps) if [one.shape[1] for one in maps] == list(wanted) else None
    if isinstance(backbone, Supernet):
        backbone.set_path(path)
    found = [one.shape[1] for one in maps]
    if found != list(wanted):
        raise DetNASError(
            f'model.neck.in_channels is {list(wanted)}, but the backbone returns maps of {found} channels, those of '
            f'its out_indices {backbone.out_indices}: give both the same.'
        )
    for name in ('bbox_head', 'rpn_head') if levels is not None else ():
        strides = getattr(getattr(getattr(model, name, None), 'prior_generator', None), 'strides', None)
        if strides is not None and len(strides) != levels:
            written = [one[0] if len(set(one)) == 1 else one for one in strides]  # mmdet makes pairs of them
            raise DetNASError(
                f'model.{name} has anchors or points of {len(strides)} strides, {written}, but the neck returns '
                f'{levels} maps: give as many strides, or another model.neck.num_outs.'
            )


def _levels(model: Any, maps: Any) -> int | None:
    """How many maps a neck returns; None where it cannot be run on maps as small as these."""
    try:
        return len(model.neck(maps))
    except Exception:  # what is wrong with it is said at the first step, where images have their own size
        return None


def checked_weights(model: nn.Module, checkpoint: Mapping[str, Any], name: Any) -> dict[str, Any]:
    """A checkpoint's weights, if they are all that a model has; what it does not have is left out.

    Args:
        model: The model, not wrapped.
        checkpoint: What the file holds.
        name: Of the file, for the message.

    Raises:
        ValueError: If weights of the model are missing in it, or have another shape there.
    """
    found = weights_in(checkpoint, name)
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
