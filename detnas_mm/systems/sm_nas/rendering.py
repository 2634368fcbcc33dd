"""From the values of all factors to the model of an ordinary mmdet config, and its input size to the pipelines."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from detnas_mm.config_types import named_nodes, type_name
from detnas_mm.errors import DetNASError
from detnas_mm.systems.sm_nas.conditions import FACTORS
from detnas_mm.systems.sm_nas.factors import Value, merged

#: Sides of what a RoI head's first level is for: boxes of up to 14 of its strides (mmdet's 56 pixels at stride 4).
_FINEST = 14
#: ImageNet's, as the reference's backbones were pre-trained with.
PREPROCESSOR = dict(
    type='DetDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True,
    pad_size_divisor=32,
)  # fmt: skip
#: Ends of the names of what makes anchors or points, and of the parts of a RoI head that maps are cut out for.
_GENERATORS = ('anchor_generator', 'prior_generator')
_OF_ROIS = ('roi_extractor', 'bbox_head', 'mask_head')
_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
#: Transforms that choose an input size themselves.
_OTHER_SIZES = ('RandomResize', 'RandomChoiceResize', 'RandomCenterCropPad', 'Mosaic', 'CachedMosaic')


def used_outputs(backbone: Value, neck: Value) -> list[tuple[int, int, int]]:
    """Returns (index, channels, stride) of the backbone's outputs that a neck, or the head behind none, reads."""
    first, last = neck.data['strides']
    return [one for one in backbone.outputs if first <= one[2] <= last]


def cut_for(backbone: Value, neck: Value) -> dict[str, Any] | None:
    """Returns settings that build no stage of a backbone that nobody reads; None where it does not say them."""
    used = used_outputs(backbone, neck)
    if not used or used[-1] == backbone.outputs[-1]:
        return {}
    cut: dict[str, Any] | None = (backbone.data.get('cuts') or {}).get(str(used[-1][2]))
    return cut


def render(values: Mapping[str, Value], num_classes: int, preprocessor: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns the model of a combination of values.

    Fragments are merged in the order of :data:`FACTORS`, then the conditional ones. Derived, and nothing else:
    ``out_indices`` and the stages of the backbone; ``in_channels``; ``num_outs``; strides of anchors and RoIs;
    ``finest_scale``; ``feat_channels`` of an RPN where nothing is said; ``num_classes``; the shared head of C4.

    Args:
        values: A valid combination, by factor.
        num_classes: Classes of boxes.
        preprocessor: The config's own ``model.data_preprocessor``. Defaults to ImageNet's.

    Raises:
        DetNASError: If a part that something is derived for is no dict; names it.
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
    model['backbone']['out_indices'] = [index for index, _, _ in used]
    first, last = values['neck'].data['strides']
    strides = [first]
    while strides[-1] < last:
        strides.append(2 * strides[-1])
    channels = used[-1][1]
    if model.get('neck'):
        model['neck'] |= dict(in_channels=[one[1] for one in used], num_outs=len(strides))
        channels = model['neck']['out_channels']
    else:
        model['neck'] = None  # mmdet's detectors of one stage ask for it
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
    """Everything in a model that is set or changed, with its place."""
    for key in ('backbone', 'neck', 'rpn_head', 'bbox_head', 'roi_head'):
        if key in model:
            yield f'model.{key}', model[key]
        inner = model.get(key)
        for name, given in inner.items() if isinstance(inner, dict) else ():
            if name.endswith(_GENERATORS if key != 'roi_head' else _OF_ROIS):
                yield from ((f'model.{key}.{name}', one) for one in (given if isinstance(given, list) else [given]))


def _join(head: dict[str, Any], channels: int, strides: list[int]) -> None:
    """Gives a dense head the channels and strides of its maps."""
    head['in_channels'] = channels
    for key, part in head.items():
        if key.endswith(_GENERATORS):
            part['strides'] = list(strides)
    if 'strides' in head:
        head['strides'] = list(strides)


def _join_rois(model: dict[str, Any], backbone: Value, channels: int, strides: list[int], num_classes: int) -> None:
    """Gives a RoI head the channels and strides of the maps that it cuts out; pooled levels are the RPN's alone."""
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
            elif key in ('bbox_head', 'mask_head'):
                part |= dict(in_channels=boxed, num_classes=num_classes)


def shared_channels(backbone: Value, stride: int) -> int:
    """Returns the channels behind a shared head: those of the backbone's output after the one of this stride."""
    return next(channels for _, channels, other in backbone.outputs if other > stride)


# -- the input size -------------------------------------------------------------------------------------------------


def set_size(cfg: dict[str, Any], scale: list[int]) -> None:
    """Sets the input size in all pipelines of a config: ``scale`` of Resize, and ``size`` of Pad where it has one.

    Pipelines that stand at the config's top level are set too, since others read them there.

    Args:
        cfg: Changed in place.
        scale: (width, height).

    Raises:
        DetNASError: If a pipeline has no Resize, or another transform that chooses a size; names it.
    """
    for where, pipeline in pipelines(cfg):
        kinds = [type_name(step.get('type')) for step in pipeline if isinstance(step, Mapping)]
        other = next((kind for kind in kinds if kind in _OTHER_SIZES), None)
        if other is not None or 'Resize' not in kinds:
            raise DetNASError(
                f'{where} has {f"{other}, which chooses sizes itself" if other else "no Resize"}: the input size is a '
                f"factor of this space, which it sets in dict(type='Resize', scale=(…), keep_ratio=True)."
            )
        for step in pipeline:
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


def pipelines(cfg: Mapping[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """All pipelines of a config's dataloaders that load images, each with its place."""
    for key in _LOADERS:
        for place, node in named_nodes(key, cfg.get(key)):
            steps = node.get('pipeline')
            if isinstance(steps, list) and any(
                type_name(step.get('type')).startswith('Load') for step in steps if isinstance(step, Mapping)
            ):
                yield f'{place}.pipeline', steps
