"""GA-RPN that predicts on any device and for batches of images."""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from detnas_mm.errors import DetNASError
from detnas_mm.registry import MODELS


@MODELS.register_module(name='GARPNHead')
def ga_rpn_head(*, in_channels: int, feat_channels: int = 256, **settings: Any) -> nn.Module:
    """Builds mmdet's ``GARPNHead`` (guided anchoring, Wang et al., CVPR 2019) without its masked convolutions.

    In evaluation, mmdet's head runs its last two 1×1 convolutions only at positions that the location branch keeps, by
    an operator for GPUs and single images. This head runs them at all positions, as in training, and then drops
    positions below ``loc_filter_thr``: same keys, same boxes. Measured, exported and deployed is this dense form. An
    image in which no position is kept has no proposals; mmdet's head fails on it.

    Args:
        in_channels: Channels of the feature maps.
        feat_channels: Inner channels; must equal ``in_channels``, since location and shape are predicted from them too.
        **settings: Other arguments of mmdet's head.

    Raises:
        DetNASError: If ``feat_channels`` differs from ``in_channels``, with which mmdet's head builds but cannot run.
    """
    if feat_channels != in_channels:
        raise DetNASError(
            f'GARPNHead needs feat_channels equal to in_channels; got feat_channels={feat_channels} and '
            f'in_channels={in_channels}.'
        )
    return _head_class()(in_channels=in_channels, feat_channels=feat_channels, **settings)


@functools.cache
def _head_class() -> type[nn.Module]:
    """Returns the class; defined on first use, so that looking up a name does not import mmdet's models."""
    from mmdet.models.dense_heads import GARPNHead as MaskedGARPNHead
    from mmengine.structures import InstanceData

    class GARPNHead(MaskedGARPNHead):
        """See :func:`ga_rpn_head`."""

        def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            """Returns scores, box deltas, shapes and locations of one level, each (n, channels, h, w)."""
            x = F.relu(self.rpn_conv(x), inplace=True)
            locations, shapes = self.conv_loc(x), self.conv_shape(x)
            x = self.feature_adaption(x, shapes)
            return self.conv_cls(x), self.conv_reg(x), shapes, locations

        def _predict_by_feat_single(
            self, *, cls_scores: list[Tensor], mlvl_masks: list[Tensor], **others: Any
        ) -> InstanceData:
            if any(bool(mask.any()) for mask in mlvl_masks):
                return super()._predict_by_feat_single(cls_scores=cls_scores, mlvl_masks=mlvl_masks, **others)
            like = cls_scores[0]
            return InstanceData(bboxes=like.new_zeros(0, 4), scores=like.new_zeros(0), labels=like.new_zeros(0).long())

    return GARPNHead
