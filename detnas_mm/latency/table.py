"""Latency of the nets of a block-wise space, from a table that was measured on the device at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detnas_mm.cost.base import AdditiveTable
from detnas_mm.errors import DetNASError
from detnas_mm.latency.file import PARTS, MeasuredLatency, read_latency_file
from detnas_mm.registry import COSTS
from detnas_mm.systems.detnas.space import DetNASSpace

#: What such files hold besides what all do.
FIELDS: dict[str, Any] = dict(weights=(str, type(None)), images=str, table_ms=list, iqr_ms=list)


@COSTS.register_module()
class LatencyTable(AdditiveTable, MeasuredLatency):
    """Milliseconds for one image, as the sum of what was measured of the parts: one number a choice and position.

    The file is written by ``tools/analysis_tools/measure_latency.py``, which also tells how well the sum agrees with
    whole nets. The constant is what all nets pay: for the part ``'backbone'`` the stem, for ``'detector'`` also
    preprocessing, neck, head and post-processing.

    Args:
        space: A :class:`DetNASSpace` or what makes one.
        file: The measured table, JSON.
        part: ``'backbone'`` or ``'detector'``, if the file must be of that one.
        input_size: (height, width) in pixels, if the file must be of that one.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such table, or was measured of another space, part or input size.

    Warns:
        UserWarning: If it was measured on another device than this machine has.
    """

    def __init__(
        self,
        space: DetNASSpace | str | Mapping[str, Any],
        file: str | Path,
        part: str | None = None,
        input_size: int | Sequence[int] | None = None,
    ) -> None:
        if part is not None and part not in PARTS:
            raise DetNASError(f"part must be 'backbone' or 'detector'; got {part!r}.")
        self.space = DetNASSpace(space)
        found = read_latency_file(file, FIELDS, _problem)
        self.take(file, found, self.space, part, input_size)
        table = np.array(found['table_ms'], dtype=float)
        if table.shape != (self.space.num_blocks, self.space.num_choices):
            raise DetNASError(
                f'{file}: table_ms has the shape {table.shape}; this space has {self.space.num_blocks} blocks of '
                f'{self.space.num_choices} choices.'
            )
        scope = self.told(found['table_ms'], found['constant_ms'])
        super().__init__('latency', scope, table, float(found['constant_ms']))


def _problem(found: dict[str, Any]) -> str | None:
    """What is wrong with the numbers of a file."""
    try:
        numbers = [np.array(found[name], dtype=float) for name in ('constant_ms', 'table_ms')]
    except (TypeError, ValueError, OverflowError):
        return 'table_ms holds something else than rows of numbers, equally long'
    if numbers[1].ndim != 2 or not all(np.isfinite(n).all() and (n > 0).all() for n in numbers):
        return 'latencies must be positive numbers, a row for every block'
    return None
