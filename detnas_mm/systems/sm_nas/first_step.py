"""Computes the loss of a detector once, before a search, on two small synthetic images."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData
from torch import nn

from detnas_mm.errors import LibraryError, library_errors
from detnas_mm.models.build import build_model, without_memory
from detnas_mm.registry import MODELS
from detnas_mm.spaces.images import RGB, backbone_channels

#: Least side in pixels of the images; at the last stride a map has one pixel at least.
_SIDE = 64
#: Errors of operators that a CPU does not have, and of heads that read annotations that these images do not have.
_NOTHING_KNOWN = {
    RuntimeError: re.compile(r'implementation for device|backend|not compiled|CUDA'),
    AttributeError: re.compile(r"'(InstanceData|DetDataSample)' object has no attribute"),
}


@MODELS.register_module()
def check_loss(cfg: Mapping[str, Any], name: str, values: Mapping[str, str], strides: list[int]) -> None:
    """Computes the loss of a rendered detector on the CPU: its heads take the number of maps, targets and settings.

    All parameters are 0, so that it takes a fraction of a second. A detector with an operator that the CPU lacks,
    or with a head that reads other annotations than boxes, masks and semantic maps, is passed over.

    Args:
        cfg: Result of ``StructuralSpace.configure``; must build.
        name: Name of the candidate, for messages.
        values: Names of its values by factor, for messages.
        strides: Strides of the maps that dense heads read.

    Raises:
        LibraryError: If the loss cannot be computed; names the head.
    """
    model = copy.deepcopy(dict(cfg['model']))
    with without_memory():
        net = build_model(Config(dict(model=model, default_scope=cfg.get('default_scope'))))
    _fill(net)
    net.train()
    batch = _batch(max(_SIDE, strides[-1]), backbone_channels(model) or RGB)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), library_errors('loss'):
            net(**net.data_preprocessor(batch, True), mode='loss')
    except Exception as error:  # of user code, whose errors keep their traceback, too
        cause = error.__cause__ if isinstance(error, LibraryError) else error
        if any(isinstance(cause, kind) and text.search(str(cause)) for kind, text in _NOTHING_KNOWN.items()):
            return
        if not isinstance(error, LibraryError):
            raise
        maps = f'{len(strides)} maps of {values["neck"]}' if len(strides) > 1 else f'map of {values["neck"]}'
        raise LibraryError(
            f'search.space.factors: {values["head"]} with {values["rpn"]} does not train on the {maps} ({name}): '
            f"{error}. Correct its settings, or keep it from such necks: needs=dict(neck='…')."
        ) from error


def _fill(net: nn.Module) -> None:
    """Gives parameters on the meta device memory, filled with 0."""
    for module in net.modules():
        for key, value in list(module._parameters.items()):
            if value is not None and value.is_meta:
                filled = torch.zeros(value.shape, dtype=value.dtype)
                module._parameters[key] = nn.Parameter(filled, requires_grad=value.requires_grad)


def _batch(side: int, channels: int) -> dict[str, Any]:
    """Returns two images with two objects each of the first class: boxes, masks and semantic maps."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    samples = []
    for _ in range(2):
        shape = dict(img_shape=(side, side), ori_shape=(side, side), batch_input_shape=(side, side))
        sample = DetDataSample(metainfo=dict(shape, scale_factor=(1.0, 1.0), img_id=0))
        half = side / 2
        boxes = torch.tensor([[4.0, 4.0, half, half], [half, 8.0, side - 4.0, half]])
        masks = BitmapMasks(np.ones((2, side, side), dtype=np.uint8), side, side)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.zeros(2, dtype=torch.long), masks=masks)
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        sample.gt_sem_seg = PixelData(sem_seg=torch.zeros(1, side, side, dtype=torch.uint8))
        samples.append(sample)
    return dict(inputs=[torch.zeros(channels, side, side, dtype=torch.uint8) for _ in samples], data_samples=samples)
