"""Peak activation memory of nets of a DetNAS space, from a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detnas_mm.checks import checked_input_size
from detnas_mm.cost.base import MaximumTable
from detnas_mm.errors import DetNASError
from detnas_mm.registry import COSTS
from detnas_mm.spaces.conv import Conv
from detnas_mm.systems.detnas.space import DetNASSpace

FLOAT32 = 4  # bytes


@COSTS.register_module()
class PeakMemoryTable(MaximumTable):
    """Peak memory of the backbone's activations in inference, in bytes.

    For one image, float32, evaluation mode without gradients, in eager PyTorch: a norm allocates its output, ReLU works
    in place. Allocated at the same time are

    - the image, which the caller keeps, and the outputs of finished stages that the neck gets (``out_indices``);
    - inside a block its input, with ``channel_split='shuffle'`` the shuffled copy of it, and at stride 2 the output of
      the projection after that has run;
    - inside a branch, while a convolution's output is normalised, the activation before the convolution, its output and
      the normalised output; at the end both branches and their concatenation.

    Weights, workspaces of operators and the allocator's rounding and caching are not counted. The value equals exactly
    what :func:`detnas_mm.cost.count.count_peak_memory` counts on the built net.

    Args:
        space: A :class:`DetNASSpace` or its first argument.
        input_size: (height, width) in pixels.
        out_indices: Stages whose outputs are kept, as the backbone's. Defaults to all.
        channel_split: As of the backbone: ``'shuffle'`` (default, as in found nets) or ``'even_odd'``.
        with_last_conv: Whether the backbone has the last 1x1 convolution for classification.

    Raises:
        ValueError: If an argument is invalid.
    """

    unit = 'B'

    def __init__(
        self,
        space: DetNASSpace | str | Mapping[str, Any] = 'small',
        input_size: int | Sequence[int] = (224, 224),
        out_indices: Sequence[int] | None = None,
        channel_split: str = 'shuffle',
        with_last_conv: bool = False,
    ) -> None:
        space = DetNASSpace(space)
        height, width = input_size = checked_input_size(input_size)
        stages = range(len(space.channels))
        kept_stages = tuple(stages) if out_indices is None else tuple(out_indices)
        if not set(kept_stages) <= set(stages):
            raise DetNASError(f'out_indices must be stages from 0 to {stages[-1]}; got {out_indices!r}.')
        if channel_split not in ('shuffle', 'even_odd'):
            raise DetNASError(f"channel_split must be 'shuffle' or 'even_odd'; got {channel_split!r}.")

        image = space.in_channels * height * width
        height, width = (height + 1) // 2, (width + 1) // 2
        table = np.zeros((space.num_blocks, space.num_choices), dtype=np.int64)
        constant = image + 2 * space.stem * height * width
        kept, entering = image, space.stem * height * width  # in elements; the input may be kept already
        entering_is_kept = False
        for block in space.blocks:
            before = height * width
            if block.stride == 2:
                height, width = (height + 1) // 2, (width + 1) // 2
            leaving = block.cout * height * width
            alive = kept + (0 if entering_is_kept else entering)
            if block.stride == 1 and channel_split == 'shuffle':
                alive += entering
            for choice in range(space.num_choices):
                main, projection = space.convs(block, choice)
                projected = 0
                peaks = []
                if projection:
                    peak, projected = _branch(projection, before, height * width)
                    peaks.append(alive + peak)
                peak, main_output = _branch(main, before, height * width)
                peaks.append(alive + projected + peak)
                peaks.append(alive + projected + main_output + leaving)
                table[block.index, choice] = max(peaks)
            entering = leaving
            last_of_stage = block.index + 1 == sum(space.depths[: block.stage + 1])
            entering_is_kept = last_of_stage and block.stage in kept_stages
            kept += leaving if entering_is_kept else 0
        if with_last_conv:
            last = 2 * space.last_channels * height * width
            constant = max(constant, kept + (0 if entering_is_kept else entering) + last)
        self.space = space
        self.input_size = input_size
        what = 'backbone with last conv' if with_last_conv else 'backbone'
        outputs = f'outputs of stages {", ".join(map(str, kept_stages))} kept' if kept_stages else 'no output kept'
        scope = (
            f'bytes of activations alive at one time, {what}, one image at {input_size[0]}x{input_size[1]}, float32, '
            f'{outputs}, channel_split={channel_split}'
        )
        super().__init__('peak_memory', scope, table * FLOAT32, constant * FLOAT32)


def _branch(convs: tuple[Conv, ...], before: int, after: int) -> tuple[int, int]:
    """Returns the peak number of elements in a branch without its input, and the number in its output.

    Args:
        convs: The convolutions of the branch.
        before: Pixels of its input.
        after: Pixels after its strided convolution.
    """
    peak, previous, pixels = 0, 0, before
    for conv in convs:
        if conv.stride == 2:
            pixels = after
        output = conv.cout * pixels
        peak = max(peak, previous + 2 * output)
        previous = output
    return peak, previous
