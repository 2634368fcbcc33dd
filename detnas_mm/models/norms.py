"""Group normalisation and weight standardisation: detectors with these train from random weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detnas_mm.checks import whole
from detnas_mm.registry import MODELS


def largest_groups(channels: int, num_groups: int) -> int:
    """Returns the largest divisor of the channels that is at most ``num_groups``."""
    return next(groups for groups in range(min(channels, num_groups), 0, -1) if channels % groups == 0)


@torch.fx.wrap  # one node of a traced graph
def _contiguous_on_cpu(x: Tensor) -> Tensor:
    return x.contiguous() if x.device.type == 'cpu' else x


@MODELS.register_module()
class GroupNorm(nn.GroupNorm):
    """Group normalisation (Wu and He, ECCV 2018) with fewer groups where these do not divide the channels.

    As ``norm_cfg=dict(type='detnas_mm.GroupNorm')``. mmcv's ``dict(type='GN', num_groups=32)`` fails on layers whose
    channels 32 does not divide, such as the 16 and 24 of MobileNetV2.

    Args:
        num_channels: Channels of the layer.
        num_groups: Groups; where these do not divide ``num_channels``, the largest divisor below. Defaults to 32.
        eps: Added to the variance.
        affine: Whether it has a scale and a shift for every channel.
    """

    def __init__(self, num_channels: int, num_groups: int = 32, eps: float = 1e-5, affine: bool = True) -> None:
        groups = largest_groups(num_channels, whole('num_groups of a GroupNorm', num_groups, 1))
        super().__init__(groups, num_channels, eps, affine)

    def forward(self, x: Tensor) -> Tensor:
        """Normalises; on a CPU in torch's default memory format, which is several times faster there."""
        return super().forward(_contiguous_on_cpu(x))


@MODELS.register_module()
class StandardizedConv2d(nn.Conv2d):
    """Convolution with filters standardised to mean 0 and deviation 1 (Qiao et al., 2019, eq. 4–6).

    As ``conv_cfg=dict(type='detnas_mm.StandardizedConv2d')``; arguments and keys are those of ``nn.Conv2d``. It equals
    mmcv's ``ConvWS`` except that depthwise convolutions are not standardised: filters of nine weights have too few for
    that, and filters of one weight would become 0.

    Args:
        *args: Arguments of ``nn.Conv2d``.
        eps: Added to the deviation. Defaults to 1e-5, as mmcv.
        **kwargs: Arguments of ``nn.Conv2d``.
    """

    def __init__(self, *args: object, eps: float = 1e-5, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.eps = eps
        depthwise = self.groups > 1 and self.groups == self.in_channels
        #: True if filters are not standardised.
        self.plain = depthwise or self.weight[0].numel() == 1

    def standardized(self) -> Tensor:
        """Returns the standardised filters, shape (out_channels, in_channels / groups, height, width)."""
        if self.plain:
            return self.weight
        flat = self.weight.flatten(1)
        mean, std = flat.mean(1), flat.std(1)
        return (self.weight - mean[:, None, None, None]) / (std[:, None, None, None] + self.eps)

    def forward(self, x: Tensor) -> Tensor:
        """See ``nn.Conv2d``."""
        return self._conv_forward(x, self.standardized(), self.bias)
