"""Builds the model of a whole config without a Runner, and checks its neck and weights."""

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
    """Lets modules built inside have parameters on the meta device: shapes without values.

    Unlike ``torch.device('meta')`` it does not move other tensors, whose values constructors may need.
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
    """Builds the model of a config as mmengine's Runner does, but on the CPU and with BN in the place of SyncBN.

    Configs of mmpretrain have ``data_preprocessor`` outside the model; without it images would not be normalised.

    Args:
        cfg: An mmengine config with ``model`` and optionally ``data_preprocessor`` and ``default_scope``.

    Raises:
        DetNASError: See :func:`~detnas_mm.registry.building`.
    """
    model = copy.deepcopy(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', copy.deepcopy(cfg.data_preprocessor))
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')), building('model'):
        return revert_sync_batchnorm(MODELS.build(model))


@torch.no_grad()
def check_neck(model: nn.Module, neck: Any) -> None:
    """Checks that the neck's ``in_channels`` match the backbone's outputs, and the heads' strides the neck's outputs.

    Args:
        model: A detector or classifier, not wrapped, on the CPU or a GPU; it is not changed.
        neck: ``model.neck`` of its config; only necks with a list of ``in_channels``, such as ``FPN``, are checked.

    Raises:
        DetNASError: If they differ. The message gives both.
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
            f'model.neck.in_channels is {list(wanted)}, but the backbone returns maps of {found} channels (its '
            f'out_indices are {backbone.out_indices}): set model.neck.in_channels={found}.'
        )
    for name in ('bbox_head', 'rpn_head') if levels is not None else ():
        strides = getattr(getattr(getattr(model, name, None), 'prior_generator', None), 'strides', None)
        if strides is not None and len(strides) != levels:
            written = [one[0] if len(set(one)) == 1 else one for one in strides]  # mmdet turns numbers into pairs
            raise DetNASError(
                f'model.{name} has {len(strides)} strides, {written}, but the neck returns '
                f'{levels} maps: give one stride for each map, or set model.neck.num_outs={len(strides)}.'
            )


def _levels(model: Any, maps: Any) -> int | None:
    """Returns the number of maps that a neck returns; None if it cannot run on maps this small."""
    try:
        return len(model.neck(maps))
    except Exception:  # a real fault is raised at the first training step, on images of full size
        return None


def checked_weights(model: nn.Module, checkpoint: Mapping[str, Any], name: Any) -> dict[str, Any]:
    """Returns the weights of a checkpoint that a model has; raises if the model has others too.

    Args:
        model: The model, not wrapped.
        checkpoint: Content of the file.
        name: Name of the file, for messages.

    Raises:
        ValueError: If a weight of the model is missing in the checkpoint, or has another shape there.
    """
    found = weights_in(checkpoint, name)
    wanted = {key: value.shape for key, value in model.state_dict().items()}
    missing = [key for key, shape in wanted.items() if getattr(found.get(key), 'shape', None) != shape]
    if missing:
        there = found.get(missing[-1])
        shape = '' if there is None else f' ({tuple(there.shape)} there, {tuple(wanted[missing[-1]])} here)'
        raise DetNASError(
            f'{name} lacks {len(missing)} of the {len(wanted)} tensors of this model, such as {missing[-1]}{shape}: '
            f'they would be random. Give the checkpoint of a supernet that was trained in this model, not one that '
            f'was trained in another.'
        )
    return {key: found[key] for key in wanted}
