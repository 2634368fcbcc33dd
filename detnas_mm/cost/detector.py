"""A detector as a module that runs every layer once, for counting. Imports torch and mmdet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from mmcv.ops import DeformConv2d, ModulatedDeformConv2d
from mmdet.models.detectors import SingleStageDetector, TwoStageDetector
from torch import Tensor, nn
from torch.nn import functional

from detnas_mm.errors import DetNASError


class AllLayers(nn.Module):
    """Runs the layers of a box detector on one image, without selecting boxes by score.

    So it can run on torch's meta device, where tensors have shapes but no values. The RoI head gets the largest number
    of proposals: ``max_per_img`` of ``test_cfg.rpn``, or all that ``nms_pre`` leaves of the anchors if these are fewer.

    Args:
        detector: A single-stage or two-stage detector of mmdet.

    Raises:
        DetNASError: If it is of another kind, or has masks.
    """

    def __init__(self, detector: Any) -> None:
        super().__init__()
        kind = type(detector).__name__
        if not isinstance(detector, (SingleStageDetector, TwoStageDetector)):
            raise DetNASError(f'Only single-stage and two-stage detectors of mmdet can be counted; got {kind}.')
        if detector.with_mask or getattr(getattr(detector, 'roi_head', None), 'with_mask', False):
            raise DetNASError(f'Only detectors without masks can be counted; {kind} has a mask head.')
        self.detector = detector
        self.in_channels = getattr(detector.backbone, 'in_channels', 3)

    def forward(self, image: Tensor) -> None:
        with _plain_convolutions(self.detector):
            maps = self.detector.extract_feat(image)
            if isinstance(self.detector, SingleStageDetector):
                self.detector.bbox_head(maps)
                return
            found = self.detector.rpn_head(maps)
            self._second_stage(image, self._proposals(found[0]))

    def _proposals(self, scores: list[Tensor]) -> int:
        """Returns the largest number of proposals.

        Args:
            scores: Scores of anchors, one tensor of shape (1, anchors, h, w) for each level.
        """
        cfg = self.detector.test_cfg['rpn']
        outputs = self.detector.rpn_head.cls_out_channels
        before = sum(min(cfg.get('nms_pre') or one.numel(), one.numel() // outputs) for one in scores)
        return min(before, cfg.get('max_per_img', before))

    def _second_stage(self, image: Tensor, proposals: int) -> None:
        head = self.detector.roi_head
        for extractor, bbox_head in zip(_all(head.bbox_roi_extractor), _all(head.bbox_head), strict=True):
            height, width = extractor.roi_layers[0].output_size
            boxes = image.new_empty(proposals, extractor.out_channels, height, width)
            if head.with_shared_head:
                boxes = head.shared_head(boxes)
            bbox_head(boxes)


def _all(part: Any) -> list[Any]:
    """Returns the stages of a cascade as a list; any other head as a list of one."""
    return list(part) if isinstance(part, nn.ModuleList) else [part]


@contextmanager
def _plain_convolutions(module: nn.Module) -> Iterator[None]:
    """Runs deformable convolutions as ordinary ones of equal size: mmcv's do not run on the meta device."""
    found = [one for one in module.modules() if isinstance(one, (DeformConv2d, ModulatedDeformConv2d))]
    try:
        for one in found:
            one.forward = partial(_convolve, one)
        yield
    finally:
        for one in found:
            del one.forward


def _convolve(conv: Any, image: Tensor, *_: Tensor) -> Tensor:
    return functional.conv2d(image, conv.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)
