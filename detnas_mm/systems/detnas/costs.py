"""Multiply-adds and parameters of nets of a DetNAS space, as sums over a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detnas_mm.checks import checked_input_size
from detnas_mm.cost.base import AdditiveTable
from detnas_mm.registry import COSTS
from detnas_mm.systems.detnas.memory import PeakMemoryTable
from detnas_mm.systems.detnas.space import DetNASSpace

__all__ = ['MacsTable', 'ParamsTable', 'PeakMemoryTable']


@COSTS.register_module()
class MacsTable(AdditiveTable):
    """Multiply-adds of the backbone's convolutions (the paper's "FLOPs"), biases and BN not counted.

    The sum equals exactly what :func:`detnas_mm.cost.count.count_macs` counts on the built net.

    Args:
        space: A :class:`DetNASSpace` or its first argument.
        input_size: (height, width) in pixels.
        with_classifier: Number of classes, to add the last 1x1 convolution and the classifier as the authors' path
            sampling on ImageNet does (33,136,640 more at 224x224, small space, 1,000 classes). 0 for the backbone only.
    """

    def __init__(
        self,
        space: DetNASSpace | str | Mapping[str, Any] = 'small',
        input_size: int | Sequence[int] = (224, 224),
        with_classifier: int = 0,
    ) -> None:
        space = DetNASSpace(space)
        height, width = input_size = checked_input_size(input_size)

        def halved() -> tuple[int, int]:
            return (height + 1) // 2, (width + 1) // 2

        height, width = halved()
        constant = space.stem_conv.macs(height, width)
        table = np.zeros((space.num_blocks, space.num_choices), dtype=np.int64)
        for block in space.blocks:
            before = height, width
            if block.stride == 2:
                height, width = halved()
            for choice in range(space.num_choices):
                for branch in space.convs(block, choice):
                    size = before
                    for conv in branch:
                        if conv.stride == 2:
                            size = height, width
                        table[block.index, choice] += conv.macs(*size)
        if with_classifier:
            constant += space.last_conv.macs(height, width) + space.last_channels * with_classifier
        what = 'backbone with last conv and classifier' if with_classifier else 'backbone'
        scope = f'multiply-adds of convolutions, {what}, at {input_size[0]}x{input_size[1]}'
        super().__init__('macs', scope, table, constant)
        self.space = space
        self.input_size = input_size

    def spec(self) -> dict[str, Any]:
        return super().spec() | dict(input_size=list(self.input_size))

    @classmethod
    def build(
        cls, space: DetNASSpace | str | Mapping[str, Any], input_size: int | Sequence[int] = (224, 224), **kwargs: Any
    ) -> MacsTable:
        """Builds the table; equivalent to calling the class."""
        return cls(space, input_size, **kwargs)


@COSTS.register_module()
class ParamsTable(AdditiveTable):
    """Learnable parameters of the backbone: weights, biases, and the scale and shift of every BN.

    Args:
        space: A :class:`DetNASSpace` or its first argument.
    """

    def __init__(self, space: DetNASSpace | str | Mapping[str, Any] = 'small') -> None:
        space = DetNASSpace(space)
        table = np.zeros((space.num_blocks, space.num_choices), dtype=np.int64)
        for block in space.blocks:
            for choice in range(space.num_choices):
                convs = [conv for branch in space.convs(block, choice) for conv in branch]
                table[block.index, choice] = sum(conv.params + 2 * conv.cout for conv in convs)
        stem = space.stem_conv
        super().__init__('params', 'learnable parameters, backbone', table, stem.params + 2 * stem.cout)
        self.space = space
