"""Checks detectors on the meta device before a search: that they build, and that their parts fit."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import Tensor, nn

from detnas_mm.config_types import is_other, named_nodes, nodes
from detnas_mm.datasets.described import described
from detnas_mm.errors import DetNASError, LibraryError
from detnas_mm.models.build import build_model, without_memory
from detnas_mm.registry import MODELS
from detnas_mm.search.text import counted
from detnas_mm.spaces.images import RGB, backbone_channels, check_images
from detnas_mm.systems.sm_nas.asking import (
    NotOnMetaError,
    build_part,
    gradients,
    meta_image,
    meta_map,
    meta_maps,
    on_meta,
    stride_of,
)

#: Channels and stride of a feature map.
Map = tuple[int, int]
#: Parts of a detector, each with the factor that defines it.
_PARTS = (('backbone', 'backbone'), ('neck', 'neck'), ('rpn_head', 'rpn'), ('bbox_head', 'head'), ('roi_head', 'head'))


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
def check_detector(
    cfg: Mapping[str, Any],
    name: str,
    values: Mapping[str, str],
    maps: Sequence[Map],
    strides: Sequence[int],
    unread: Collection[str] = (),
    seen: set[str] | None = None,
) -> None:
    """Builds a rendered detector on the meta device, and compares its maps with the table, and its heads with these.

    Args:
        cfg: Result of ``StructuralSpace.configure``.
        name: Name of the candidate, for messages.
        values: Names of its values by factor, for messages.
        maps: (channels, stride) of the backbone's maps, by the table.
        strides: Strides of the maps that dense heads read, by the table.
        unread: Factors out of ``'backbone'`` and ``'neck'`` whose parts need not all be read.
        seen: Backbones and necks that were run before, which are not run again; those of this detector are added.

    Raises:
        DetNASError: If it does not build, pipelines load images of other channels, a file of pre-trained weights is
            missing, a backbone without weights is frozen, maps have other channels or strides, a part runs on which no
            map depends, a head has anchors or points of other strides, or the data has other classes; names the value.
    """
    model = cfg['model']
    other = _other_classes(cfg)
    if other:
        raise DetNASError(
            f'search.space.num_classes does not fit the data: {other}. Set it to the classes of the data.'
        )
    check_images(cfg, name=name)
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
        advice = ''.join(
            f" Give {values[part]} not_taken=['{key}'], if its type has no such argument."
            for part, key in (('backbone', 'out_indices'), ('neck', 'num_outs'))
            if title == values[part] and f'has no argument {key!r}' in str(error)
        )
        raise LibraryError(f'search.space.factors: {title or name} does not build ({name}): {error}{advice}') from error
    frozen = [] if cfg.get('load_from') or _names_weights(model) else _frozen(net.backbone)
    if frozen:
        raise DetNASError(
            f'search.space.factors: {values["backbone"]} names no pre-trained weights and has {" and ".join(frozen)}: '
            f'the frozen parts would stay random. Set frozen_stages=-1 and norm_eval=False, name weights '
            f"(init_cfg=dict(type='Pretrained', checkpoint='…')), or set search.space.recipe='from_scratch'."
        )
    seen = set() if seen is None else seen
    keys = repr((list(maps), model['backbone'])), repr((list(maps), list(strides), model.get('neck')))
    if keys[0] not in seen:
        with contextlib.suppress(NotOnMetaError):  # what it returns is unknown until it trains
            _check_backbone(net.backbone, model, name, values['backbone'], list(maps), 'backbone' in unread)
    if model.get('neck') and keys[1] not in seen:
        with contextlib.suppress(NotOnMetaError):
            expected = [[model['neck']['out_channels']] * len(strides), list(strides)]
            _check_neck(net.neck, name, values['neck'], list(maps), expected, 'neck' in unread)
    seen |= set(keys)
    for key, factor in (('rpn_head', 'rpn'), ('bbox_head', 'head')):
        _check_strides(getattr(net, key, None), name, values[factor], list(strides))
    shared = getattr(getattr(net, 'roi_head', None), 'shared_head', None)
    if shared is not None:
        taken, given = maps[-1][0], model['roi_head']['bbox_head']['in_channels']
        try:
            fits = [one.shape[1] for one in meta_maps(shared, meta_image(taken))] == [given]
        except DetNASError:
            fits = False
        if not fits:
            raise DetNASError(
                f'search.space.factors: shared_head of {values["backbone"]} does not turn {taken} channels of its map '
                f'into {given} ({name}). Give a shared_head with these channels, or shared_head=None.'
            )


def _check_backbone(
    net: nn.Module, model: Mapping[str, Any], name: str, title: str, maps: list[Map], unread: bool
) -> None:
    """Runs a backbone, and compares its maps with the table; see :func:`check_detector`."""
    taken = meta_maps(net, meta_image(backbone_channels(model) or RGB))
    found, expected = _shapes(taken), [list(one) for one in zip(*maps, strict=True)]
    if found != expected:
        raise DetNASError(
            f'search.space.factors: {title} returns maps of {found[0]} channels and strides {found[1]}, and the table '
            f'says {expected[0]} and {expected[1]} ({name}). Correct its channels, strides and out_indices.'
        )
    if not unread:
        advice = 'Return its last map, too (out_indices), or end it earlier, such as by num_stages in its model'
        _check_read(net, taken, name, title, advice)


def _check_neck(
    net: nn.Module, name: str, title: str, maps: list[Map], expected: list[list[int]], unread: bool
) -> None:
    """Runs a neck on maps as the table has them, and compares what it returns; see :func:`check_detector`."""
    given = [meta_map(channels, stride).requires_grad_() for channels, stride in maps]
    try:
        read = meta_maps(net, tuple(given))
    except NotOnMetaError:
        raise
    except LibraryError as error:
        raise LibraryError(
            f'search.space.factors: {title} does not run on maps of {[one[0] for one in maps]} channels and strides '
            f'{[one[1] for one in maps]} ({name}): {error}'
        ) from error
    found = _shapes(read)
    if found != expected:
        raise DetNASError(
            f'search.space.factors: {title} returns maps of {found[0]} channels and strides {found[1]}, and the table '
            f'says {expected[0]} and {expected[1]} ({name}). It is given only the maps of the backbone from its first '
            f'stride on: remove start_level and end_level from model.neck, or correct its strides.'
        )
    if unread:
        return
    _check_read(net, read, name, title, 'Correct model.neck')
    lost = [stride for one, (_, stride) in zip(given, maps, strict=True) if one.grad is None]
    if lost:
        raise DetNASError(
            f"search.space.factors: {title} does not read the backbone's map of stride {lost[0]} ({name}), which "
            f'would cost time and never be trained. Correct model.neck or its strides.'
        )


def _shapes(maps: Sequence[Tensor]) -> list[list[int]]:
    return [[one.shape[1] for one in maps], [stride_of(one) for one in maps]]


def _check_read(net: nn.Module, maps: list[Tensor], name: str, title: str, advice: str) -> None:
    """Raises if a part runs on which no feature map depends."""
    with on_meta(f'the backward pass of {type(net).__name__}'):
        gradients(maps)
    lost = [key for key, value in net.named_parameters() if value.requires_grad and value.grad is None]
    if lost:
        raise DetNASError(
            f'search.space.factors: {title} has {counted(len(lost), "parameter")} on which no map that it returns '
            f'depends, such as {lost[0]} ({name}): they would cost time and never be trained. {advice}, '
            f'or keep them by unread=True.'
        )


def _check_strides(head: nn.Module | None, name: str, title: str, strides: list[int]) -> None:
    """Compares the strides of all anchors and points of a dense head with those of the maps that it reads."""
    for key, part in vars(head).items() if head is not None else ():
        given = getattr(part, 'strides', None)
        if not key.endswith('generator') or given is None:
            continue
        found = [max(one) if isinstance(one, Sequence) else one for one in given]  # mmdet turns numbers into pairs
        if found != strides:
            raise DetNASError(
                f'search.space.factors: {title} has a {key} of strides {found}, and reads maps of strides {strides} '
                f"({name}). Strides are filled in where the head's config has them: strides=(), point_strides=(), or "
                f"a generator, such as anchor_generator=dict(type='AnchorGenerator', …)."
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
            build_part(key, part)
        except DetNASError:
            return values[factor]
    return ''
