"""Shared head of detectors without a neck, with convolutions by a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from detnas_mm.registry import MODELS


@MODELS.register_module(name='ResLayer')
def res_layer(*, conv_cfg: Mapping[str, Any] | None = None, **settings: Any) -> nn.Module:
    """Builds mmdet's ``ResLayer``, a stage of a ResNet on regions, with convolutions of ``conv_cfg``.

    mmdet's own has no such argument, so weight standardisation would leave it out. Keys are those of mmdet's.

    Args:
        conv_cfg: mmcv's config of convolutions. Defaults to None, ``nn.Conv2d``.
        **settings: Arguments of mmdet's ``ResLayer``.
    """
    from mmcv.cnn import build_conv_layer
    from mmdet.models.roi_heads.shared_heads import ResLayer

    head = ResLayer(**settings)
    places = [(parent, *child) for parent in head.modules() for child in parent.named_children()]
    for parent, name, conv in places:
        if type(conv) is nn.Conv2d:
            own = {key: getattr(conv, key) for key in ('stride', 'padding', 'dilation', 'groups')}
            layer = build_conv_layer(
                conv_cfg, conv.in_channels, conv.out_channels, conv.kernel_size, bias=conv.bias is not None, **own
            )
            setattr(parent, name, layer)
    return head
