"""Support blocks that merge parallel branches into one convolution for deployment, such as those of RepVGG.

``switch_to_deploy`` of such a block adds the kernels of its branches and builds a new convolution for the sum, with the
dilation of the plain block. In RepVGG the sum is right for any dilation, since the 1×1 branch and the identity add to
the middle tap: the new convolution only needs the dilations of the old one. A block with several 3×3 branches, such as
that of MobileOne, cannot be merged if these have different dilations.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from torch import nn

from detnas_mm.errors import DetNASError
from detnas_mm.systems.nats.convs import Genotype
from detnas_mm.systems.nats.layers import DilatedConv2d

#: Name of the 3×3 convolution in a RepVGG block, before and after merging.
BRANCH, MERGED = 'branch_3x3.conv', 'branch_reparam'


def merging_block(net: nn.Module, conv: str) -> str | None:
    """Returns the name of the innermost block that will merge a convolution with others; None if there is none.

    Args:
        net: The backbone.
        conv: Name of the convolution.
    """
    parts = conv.split('.')
    for end in range(len(parts) - 1, 0, -1):
        block: Any = net.get_submodule('.'.join(parts[:end]))
        if callable(getattr(block, 'switch_to_deploy', None)) and not getattr(block, 'deploy', False):
            return '.'.join(parts[:end])
    return None


def refusal_of_branch(net: nn.Module, conv: str) -> str:
    """Returns why a convolution cannot have dilations because of the block that merges it; or ''."""
    block = merging_block(net, conv)
    if block is None or conv == f'{block}.{BRANCH}':
        return ''
    kind = type(net.get_submodule(block)).__name__
    return (
        f'is one of several branches that a {kind} merges into one convolution by switch_to_deploy(); branches of '
        f'different dilations cannot be merged. Build the backbone with deploy=True and load a checkpoint that was '
        f'saved after switch_to_deploy()'
    )


def keep_dilations_when_merged(net: nn.Module, conv: str, dilations: Sequence[Genotype]) -> None:
    """Makes the block of a dilated convolution keep the dilations in ``switch_to_deploy``.

    Args:
        net: The backbone.
        conv: Name of the convolution; nothing is done if no block merges it.
        dilations: One genotype per unit.
    """
    name = merging_block(net, conv)
    if name is not None:
        block: Any = net.get_submodule(name)
        block.switch_to_deploy = functools.partial(_merge, block, tuple(dilations))


def refuse_to_merge(net: nn.Module, conv: str, instead: str) -> None:
    """Makes ``switch_to_deploy`` of the block of a convolution raise an error.

    Args:
        net: The backbone.
        conv: Name of the convolution; nothing is done if no block merges it.
        instead: End of the message: the reason, and what to do instead.
    """
    name = merging_block(net, conv)
    if name is not None:
        block: Any = net.get_submodule(name)
        block.switch_to_deploy = functools.partial(_refuse, f'{name}: switch_to_deploy: {conv} {instead}')


def _merge(block: Any, dilations: tuple[Genotype, ...]) -> None:
    type(block).switch_to_deploy(block)
    merged = getattr(block, MERGED)
    if type(merged) is nn.Conv2d:
        DilatedConv2d.of(merged, dilations)


def _refuse(text: str) -> None:
    raise DetNASError(text)
