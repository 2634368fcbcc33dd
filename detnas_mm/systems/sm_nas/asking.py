"""Builds parts of detectors on the meta device: finds the outputs of backbones, and checks that detectors build."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from detnas_mm.config_types import is_other, named_nodes, nodes
from detnas_mm.datasets.described import described
from detnas_mm.errors import DetNASError, LibraryError, library_errors
from detnas_mm.models.build import build_model, without_memory
from detnas_mm.registry import MODELS, building
from detnas_mm.spaces.images import RGB

#: Side in pixels of the image on which strides are found; a map of stride 128 still has 4 x 4.
_SIDE = 512
#: Parts of a detector, each with the factor that defines it.
_PARTS = (('backbone', 'backbone'), ('neck', 'neck'), ('rpn_head', 'rpn'), ('bbox_head', 'head'), ('roi_head', 'head'))


@MODELS.register_module()
def backbone_outputs(backbone: Mapping[str, Any]) -> dict[str, list[int]]:
    """Returns the outputs of a backbone as lists: ``channels``, ``strides`` and ``out_indices``.

    Builds it and runs it once on the meta device, with its own ``out_indices``.

    Args:
        backbone: Its config; a type without a scope is mmdet's.

    Raises:
        DetNASError: If it does not build or run, or two of its maps have the same stride.
    """
    net = _build('backbone', backbone)
    maps = _maps(net, backbone.get('in_channels') or RGB)
    strides = [_SIDE // one.shape[2] for one in maps]
    own = backbone.get('out_indices', getattr(net, 'out_indices', None))
    indices = list(range(len(maps))) if own is None else [own] if isinstance(own, int) else list(own)
    if len(indices) != len(maps) or strides != sorted(set(strides)):
        raise DetNASError(
            f'its {len(maps)} feature maps have strides {strides} and out_indices {indices}; strides must increase, '
            f'and each map needs an index. Give channels, strides and out_indices of the maps to use.'
        )
    return dict(channels=[one.shape[1] for one in maps], strides=strides, out_indices=indices)


@MODELS.register_module()
def check_seed(cfg: Mapping[str, Any], name: str) -> None:
    """Builds a detector of the modular space on the meta device.

    Args:
        cfg: Result of ``ModularSpace.configure``.
        name: Name of the seed, for messages.

    Raises:
        DetNASError: If it does not build, or has another number of classes than the data; names the seed.
    """
    scope = dict(model=copy.deepcopy(dict(cfg['model'])), default_scope=cfg.get('default_scope'))
    try:
        with without_memory():
            build_model(Config(scope))
    except DetNASError as error:
        raise LibraryError(f'search.space.seeds: {name} does not build: {error}') from error
    other = _other_classes(cfg)
    if other:
        raise DetNASError(
            f'search.space.seeds: {name} does not fit the data: {other}. Give seeds with the classes of the data.'
        )


@MODELS.register_module()
def check_detector(cfg: Mapping[str, Any], name: str, values: Mapping[str, str]) -> None:
    """Builds a rendered detector on the meta device, and compares its backbone's maps with its neck and heads.

    Args:
        cfg: Result of ``StructuralSpace.configure``.
        name: Name of the candidate, for messages.
        values: Names of its values by factor, for messages.

    Raises:
        DetNASError: If it does not build, a file of pre-trained weights is missing, a backbone without weights is
            frozen, maps have other channels or strides, or the data other classes; names the value.
    """
    model = cfg['model']
    other = _other_classes(cfg)
    if other:
        raise DetNASError(
            f'search.space.num_classes does not fit the data: {other}. Set it to the classes of the data.'
        )
    for place, node in named_nodes('model', model):
        file = node.get('checkpoint') if is_other(node, 'Pretrained') else None
        if isinstance(file, str) and '://' not in file and not Path(file).is_file():
            raise DetNASError(
                f'search.space.factors: {place} of {name} names the weights {file}, and there is no such file.'
            )
    try:
        with without_memory():
            net = build_model(Config(dict(model=copy.deepcopy(dict(model)), default_scope=cfg.get('default_scope'))))
    except DetNASError as error:
        title = _guilty(model, values)
        raise LibraryError(f'search.space.factors: {title or name} does not build ({name}): {error}') from error
    backbone = model['backbone']
    frozen = [] if cfg.get('load_from') or _names_weights(model) else _frozen(net.backbone)
    if frozen:
        raise DetNASError(
            f'search.space.factors: {values["backbone"]} names no pre-trained weights and has {" and ".join(frozen)}: '
            f'the frozen parts would stay random. Set frozen_stages=-1 and norm_eval=False, name weights '
            f"(init_cfg=dict(type='Pretrained', checkpoint='…')), or set search.space.recipe='from_scratch'."
        )
    maps = _maps(net.backbone, backbone.get('in_channels') or RGB)
    found = [one.shape[1] for one in maps], [_SIDE // one.shape[2] for one in maps]
    strides = _strides(model)
    neck = model.get('neck')
    channels = neck['in_channels'] if neck else [(model.get('rpn_head') or model['bbox_head'])['in_channels']]
    if found != (channels, strides[: len(channels)]):
        raise DetNASError(
            f'search.space.factors: {values["backbone"]} returns maps of {found[0]} channels and strides {found[1]}, '
            f'and the table says {channels} and {strides[: len(channels)]} ({name}). Correct its channels, strides and '
            f'out_indices.'
        )
    shared = getattr(getattr(net, 'roi_head', None), 'shared_head', None)
    if shared is not None:
        taken, given = found[0][-1], model['roi_head']['bbox_head']['in_channels']
        try:
            fits = [one.shape[1] for one in _maps(shared, taken)] == [given]
        except DetNASError:
            fits = False
        if not fits:
            raise DetNASError(
                f'search.space.factors: shared_head of {values["backbone"]} does not turn {taken} channels of its map '
                f'into {given} ({name}). Give a shared_head with these channels, or shared_head=None.'
            )


def _other_classes(cfg: Mapping[str, Any]) -> str:
    """Returns which head and data set differ in their number of classes, by the config alone; '' if none do."""
    from detnas_mm.engine.classes import HEADS, Head  # the engine loads models

    scope = cfg.get('default_scope')
    heads = [Head(key, node, None).classes() for key, node in named_nodes('model', cfg['model']) if HEADS.search(key)]
    for loader in ('train_dataloader', 'val_dataloader'):
        for one in described(loader, cfg.get(loader), scope):
            classes, where = one.classes()
            if classes is None or isinstance(classes, str):
                continue
            for number, _ in heads:
                if number not in (None, len(classes)):
                    return f'its heads have {number} classes, {one.key} has {len(classes)} ({where})'
    return ''


def _names_weights(model: Mapping[str, Any]) -> bool:
    """Returns whether a detector names pre-trained weights for its backbone or for the whole model."""
    whole = model.get('init_cfg')
    kept = [*nodes(model['backbone']), *(whole if isinstance(whole, (list, tuple)) else [whole])]
    return bool(model.get('pretrained')) or any(
        is_other(node, 'Pretrained') or any((node or {}).get(key) for key in ('pretrained', 'checkpoint_path'))
        for node in kept
    )


def _frozen(backbone: nn.Module) -> list[str]:
    """Returns the settings by which a built backbone keeps parameters or statistics fixed."""
    stages = getattr(backbone, 'frozen_stages', -1)
    norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in backbone.modules())
    found = [f'frozen_stages={stages}'] if type(stages) is int and stages >= 0 else []
    return found + (['norm_eval=True'] if norms and getattr(backbone, 'norm_eval', False) is True else [])


def _strides(model: Mapping[str, Any]) -> list[int]:
    """Returns the strides of the maps that the first dense head reads, from its anchors or points."""
    head = model.get('rpn_head') or model['bbox_head']
    for part in [head, *(one for one in head.values() if isinstance(one, Mapping))]:
        if part.get('strides'):
            return list(part['strides'])
    return []


def _guilty(model: Mapping[str, Any], values: Mapping[str, str]) -> str:
    """Returns the first value whose part of a detector does not build on its own; '' if all do."""
    settings = model.get('train_cfg') or {}, model.get('test_cfg') or {}
    for key, factor in _PARTS:
        if not model.get(key):
            continue
        part = copy.deepcopy(dict(model[key]))
        if key.endswith('head'):
            stage = {'rpn_head': 'rpn', 'roi_head': 'rcnn'}.get(key)
            train, test = ((one.get(stage) if stage else one) for one in settings)
            part |= dict(train_cfg=Config(dict(x=train)).x, test_cfg=Config(dict(x=test)).x)
        try:
            _build(key, part)
        except DetNASError:
            return values[factor]
    return ''


def _build(what: str, part: Mapping[str, Any]) -> nn.Module:
    settings = {key: value for key, value in part.items() if key not in ('init_cfg', 'pretrained')}
    with without_memory(), building(what), DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(copy.deepcopy(settings))


@torch.no_grad()
def _maps(net: nn.Module, in_channels: int) -> list[Tensor]:
    """Returns the feature maps of a backbone on the meta device."""
    with torch.device('meta'), library_errors(f'{type(net).__name__} on an image of {_SIDE} x {_SIDE}'):
        net.to('meta').eval()
        maps = net(torch.empty(1, in_channels, _SIDE, _SIDE))
    return [maps] if isinstance(maps, Tensor) else list(maps)
