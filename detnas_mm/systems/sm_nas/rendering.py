"""Renders a combination of factor values to the model of an mmdet config, and sets its input size in pipelines."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from detnas_mm.config_types import named_nodes, type_name
from detnas_mm.errors import DetNASError
from detnas_mm.systems.sm_nas.conditions import FACTORS
from detnas_mm.systems.sm_nas.factors import Value, merged

#: ``finest_scale`` of a RoI extractor in strides of its first level (mmdet's default is 56 pixels at stride 4).
_FINEST = 14
#: Mean and deviation of ImageNet, with which the paper's backbones were pre-trained.
PREPROCESSOR = dict(
    type='DetDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True,
    pad_size_divisor=32,
)  # fmt: skip
#: Ends of the keys of generators of anchors or points, keys of strides, and ends of those of the parts of a RoI head.
_GENERATORS = ('anchor_generator', 'prior_generator')
_STRIDES = ('strides', 'point_strides')
_OF_ROIS = ('roi_extractor', 'bbox_head', 'mask_head', 'mask_iou_head')
_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
#: Transforms, and steps of ``batch_augments``, that set an input size of their own.
_OTHER_SIZES = (
    'RandomResize', 'RandomChoiceResize', 'RandomCenterCropPad', 'Mosaic', 'CachedMosaic', 'MixUp', 'CachedMixUp',
    'YOLOXMixUp',
)  # fmt: skip
_OTHER_BATCH_SIZES = ('BatchSyncRandomResize', 'BatchResize', 'BatchFixedSizePad')


def used_outputs(backbone: Value, neck: Value) -> list[tuple[int, int, int]]:
    """Returns (index, channels, stride) of the backbone's outputs that a neck reads, or heads without a neck."""
    first, last = neck.data['strides']
    return [one for one in backbone.outputs if first <= one[2] <= last]


def strides_of(neck: Value) -> list[int]:
    """Returns the strides of the maps that a neck returns, or of the one that heads read without a neck."""
    first, last = neck.data['strides']
    return [first << level for level in range((last // first).bit_length())]


def cut_for(backbone: Value, neck: Value) -> dict[str, Any] | None:
    """Returns settings by which a backbone builds no unused stage; None if the value does not have them."""
    used = used_outputs(backbone, neck)
    if not used or used[-1] == backbone.outputs[-1]:
        return {}
    cut: dict[str, Any] | None = (backbone.data.get('cuts') or {}).get(str(used[-1][2]))
    return cut


def render(values: Mapping[str, Value], num_classes: int, preprocessor: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns the model config of a combination of values.

    Merges the parts of the values in the order of :data:`FACTORS`, then those of ``when``. Only these settings are
    derived: ``out_indices`` and number of stages of the backbone; ``in_channels``; ``num_outs``; strides of anchors and
    RoIs; ``finest_scale``; ``feat_channels`` of an RPN that has none; ``num_classes``; the shared head of C4.

    Args:
        values: A valid combination, by factor.
        num_classes: Number of object classes.
        preprocessor: The config's own ``model.data_preprocessor``. Defaults to :data:`PREPROCESSOR`.

    Raises:
        DetNASError: If a part with a derived setting is no dict; names it.
    """
    model: dict[str, Any] = dict(data_preprocessor=dict(preprocessor or PREPROCESSOR))
    for factor in FACTORS:
        model = merged(model, values[factor].model)
    names = {factor: value.name for factor, value in values.items()}
    for factor in FACTORS:
        for fragment in values[factor].fragments(names):
            model = merged(model, fragment)
    for place, part in _parts(model):
        if not isinstance(part, dict):
            raise DetNASError(f'{"/".join(names.values())}: {place} must be a dict; got {part!r}.')
    used = used_outputs(values['backbone'], values['neck'])
    model['backbone'] |= copy.deepcopy(cut_for(values['backbone'], values['neck']) or {})
    if 'out_indices' not in values['backbone'].not_taken:
        model['backbone']['out_indices'] = [index for index, _, _ in used]
    strides = strides_of(values['neck'])
    channels = used[-1][1]
    if model.get('neck'):
        model['neck']['in_channels'] = [one[1] for one in used]
        if 'num_outs' not in values['neck'].not_taken:
            model['neck']['num_outs'] = len(strides)
        channels = model['neck']['out_channels']
    else:
        model['neck'] = None  # mmdet's one-stage detectors require the argument
    if model.get('rpn_head'):
        model['rpn_head'].setdefault('feat_channels', channels)
        _join(model['rpn_head'], channels, strides)
    if 'roi_head' in model:
        _join_rois(model, values['backbone'], channels, [one[2] for one in used], num_classes)
    else:
        _join(model['bbox_head'], channels, strides)
        model['bbox_head']['num_classes'] = num_classes
    return {'type': model.pop('type'), **model}


def _parts(model: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the parts of a model that have derived settings, each with its place in the config."""
    for key in ('backbone', 'neck', 'rpn_head', 'bbox_head', 'roi_head'):
        if key in model:
            yield f'model.{key}', model[key]
        inner = model.get(key)
        for name, given in inner.items() if isinstance(inner, dict) else ():
            if name.endswith(_GENERATORS if key != 'roi_head' else _OF_ROIS):
                yield from ((f'model.{key}.{name}', one) for one in (given if isinstance(given, list) else [given]))


def _join(head: dict[str, Any], channels: int, strides: list[int]) -> None:
    """Sets channels and strides of the maps that a dense head reads."""
    head['in_channels'] = channels
    for key, part in head.items():
        if key.endswith(_GENERATORS):
            part['strides'] = list(strides)
    for key in _STRIDES:
        if key in head:
            head[key] = list(strides)


def _join_rois(model: dict[str, Any], backbone: Value, channels: int, strides: list[int], num_classes: int) -> None:
    """Sets channels and strides of the maps that a RoI head reads; pooled levels are left to the RPN."""
    head = model['roi_head']
    boxed = channels
    if not model.get('neck'):
        head['shared_head'] = copy.deepcopy(backbone.data['shared_head'])
        boxed = shared_channels(backbone, strides[-1])
    for key in list(head):
        for part in head[key] if isinstance(head[key], list) else [head[key]]:
            if key.endswith('roi_extractor'):
                part |= dict(out_channels=channels, featmap_strides=list(strides))
                if type_name(part.get('type')) == 'SingleRoIExtractor' and len(strides) > 1:
                    part['finest_scale'] = _FINEST * strides[0]
            elif key in _OF_ROIS:
                part |= dict(in_channels=boxed, num_classes=num_classes)


def shared_channels(backbone: Value, stride: int) -> int:
    """Returns the output channels of a shared head: those of the backbone's output after this stride."""
    return next(channels for _, channels, other in backbone.outputs if other > stride)


# -- the input size -------------------------------------------------------------------------------------------------


def set_size(cfg: dict[str, Any], scale: list[int]) -> None:
    """Sets the input size in all pipelines of a config: ``scale`` of Resize, and ``size`` of Pad if it has one.

    Variables of the config that hold pipelines (``train_pipeline``) are set too, since other tools read them.

    Args:
        cfg: The config; changed in place.
        scale: (width, height) in pixels.

    Raises:
        DetNASError: If a pipeline that loads images has no Resize, or a pipeline or ``batch_augments`` has a step that
            sets a size of its own; names it.
    """
    for where, node in named_nodes('model.data_preprocessor', (cfg.get('model') or {}).get('data_preprocessor')):
        if type_name(node.get('type')) in _OTHER_BATCH_SIZES:
            raise DetNASError(
                f'{where} is {type_name(node["type"])}, which sets sizes of its own. The space sets the input size in '
                f'a Resize of the pipelines: remove this entry of batch_augments.'
            )
    for where, pipeline, loads in pipelines(cfg):
        kinds = [type_name(step.get('type')) for step in pipeline if isinstance(step, Mapping)]
        other = next((kind for kind in kinds if kind in _OTHER_SIZES), None)
        if other is not None or (loads and 'Resize' not in kinds):
            raise DetNASError(
                f'{where} has {f"{other}, which sets sizes of its own" if other else "no Resize"}. The space sets the '
                f"input size in a Resize: give the pipeline dict(type='Resize', scale=(…), keep_ratio=True) instead."
            )
        for step in (step for step in pipeline if isinstance(step, dict)):
            if type_name(step.get('type')) == 'Resize':
                step.pop('scale_factor', None)
                step['scale'] = tuple(scale)
            elif type_name(step.get('type')) == 'Pad' and step.get('size') is not None:
                step['size'] = tuple(scale)
    for key, value in cfg.items():
        if key.endswith('pipeline') and isinstance(value, list):
            for step in value:
                if isinstance(step, dict) and type_name(step.get('type')) == 'Resize':
                    step['scale'] = tuple(scale)


def pipelines(cfg: Mapping[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]], bool]]:
    """Yields all pipelines of a config's dataloaders, each with its place in the config, and whether it loads images.

    A data set that combines images of another one, such as MultiImageMixDataset, has one that does not.
    """
    for key in _LOADERS:
        for place, node in named_nodes(key, cfg.get(key)):
            steps = node.get('pipeline')
            if isinstance(steps, list):
                kinds = [type_name(step.get('type')) for step in steps if isinstance(step, Mapping)]
                yield f'{place}.pipeline', steps, any(kind.startswith('Load') for kind in kinds)
