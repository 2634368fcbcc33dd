"""Backbones with enlarged 3×3 kernels that contain the taps of all dilations (EDO, CVPR 2021, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detnas_mm.checks import whole
from detnas_mm.registry import MODELS
from detnas_mm.systems.nats.convs import Genotype
from detnas_mm.systems.nats.fusing import refuse_to_merge
from detnas_mm.systems.nats.plain import build_plain, searched_convs


@MODELS.register_module(name='EnlargedBackbone')
def enlarged_backbone(plain: Any, d_max: int = 4, stages: Sequence[str] | None = None, **backbone: Any) -> nn.Module:
    """Builds a plain backbone with kernels of (2 d_max + 1)² in place of 3×3: the supernet that EDO pre-trains.

    The class, the names of the parameters and the initialisers are those of the plain backbone. The kernels have other
    shapes, so a checkpoint of the plain backbone does not load.

    Args:
        plain: Type of the plain backbone, such as ``'mmdet.ResNet'``.
        d_max: Largest dilation that the kernels contain. Defaults to 4.
        stages: Names of the stages whose convolutions are enlarged. Defaults to all modules called layers, stages or
            blocks.
        **backbone: Settings of the plain backbone.

    Raises:
        DetNASError: If the backbone has no such convolution, or one that cannot be enlarged; names it.
    """
    whole('model.backbone.d_max', d_max, 1)
    settings = dict(backbone, type=plain)
    table = searched_convs(settings, stages)
    net = build_plain(settings)
    for conv in table:
        enlarge(cast(nn.Conv2d, net.get_submodule(conv.name)), d_max)
        refuse_to_merge(net, conv.name, 'has an enlarged kernel. Merge the found net instead.')
    return net


def enlarge(conv: nn.Conv2d, d_max: int) -> None:
    """Replaces the kernel of a 3×3 convolution by a larger new one, in place; the output size stays the same.

    Args:
        conv: The convolution.
        d_max: Largest dilation; it multiplies the dilation that the convolution has already.
    """
    old = conv.weight
    conv.kernel_size = (2 * d_max + 1, 2 * d_max + 1)
    conv.padding = (d_max * conv.dilation[0], d_max * conv.dilation[1])
    weight = torch.empty(*old.shape[:2], *conv.kernel_size, dtype=old.dtype, device=old.device)
    conv.weight = nn.Parameter(weight, requires_grad=old.requires_grad)
    if not weight.is_meta:
        conv.reset_parameters()


def largest_dilation(conv: nn.Conv2d) -> int:
    """Returns the largest dilation whose taps the kernel of a convolution contains: 1 for a plain 3×3 one."""
    return min(size // 2 for size in conv.kernel_size)


def taps(weight: Tensor, genotype: Genotype) -> Tensor:
    """Returns the nine taps of a dilation out of enlarged kernels, shape (c_out, c_in / groups, 3, 3).

    Args:
        weight: Shape (c_out, c_in / groups, 2 d_max + 1, 2 d_max + 1).
        genotype: The dilation.
    """
    for dim, dilation in enumerate(genotype, 2):
        middle = weight.shape[dim] // 2
        weight = weight.index_select(
            dim, torch.tensor([middle - dilation, middle, middle + dilation], device=weight.device)
        )
    return weight


def run_taps(conv: nn.Conv2d, x: Tensor, weight: Tensor, genotype: Genotype, bias: Tensor | None = None) -> Tensor:
    """Returns the output of an enlarged convolution with only the nine taps of a dilation.

    Args:
        conv: The convolution; its stride, dilation and groups are used.
        x: Its input, shape (n, c_in, h, w).
        weight: Its enlarged kernel, in the dtype of ``x``.
        genotype: The dilation.
        bias: Its bias, or None.
    """
    dilation = (conv.dilation[0] * genotype[0], conv.dilation[1] * genotype[1])  # and padding
    return F.conv2d(x, taps(weight, genotype), bias, conv.stride, dilation, dilation, conv.groups)
