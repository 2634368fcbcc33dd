"""Latency from a measured table, for spaces with one choice at each position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from detnas_mm.cost.base import AdditiveTable
from detnas_mm.errors import DetNASError
from detnas_mm.latency.file import MeasuredLatency
from detnas_mm.registry import COSTS, SPACES, build_from
from detnas_mm.spaces import ChoiceSpace


@COSTS.register_module()
class LatencyTable(MeasuredLatency):
    """Milliseconds for one image: sum of a constant and of one measured number for the choice at each position.

    The file is written by ``tools/analysis_tools/measure_latency.py``, which also reports how well sums agree with
    measured whole nets. The constant is the time of the stem and, for the part ``'detector'``, of preprocessing, neck,
    head and post-processing.

    Args:
        space: A :class:`ChoiceSpace`, or the config of one.
        file: See :class:`MeasuredLatency`.
        part: See :class:`MeasuredLatency`.
        input_size: See :class:`MeasuredLatency`.

    Raises:
        ValueError: If an argument does not fit; on first use, if the file does not.
    """

    fields = dict(weights=(str, type(None)), images=str, table_ms=list, iqr_ms=list)

    def __init__(
        self,
        space: ChoiceSpace | Mapping[str, Any],
        file: str | Path,
        part: str | None = None,
        input_size: int | Sequence[int] | None = None,
    ) -> None:
        space = build_from(SPACES, space)
        if not isinstance(space, ChoiceSpace):
            raise DetNASError(f'LatencyTable needs a space with one choice at each position; got {space!r}.')
        super().__init__(space, file, part, input_size)
        self.choices = tuple(space.choices)

    def problem(self, found: dict[str, Any]) -> str | None:
        try:
            rows = [np.array(row, dtype=float) for row in [[found['constant_ms']], *found['table_ms']]]
        except (TypeError, ValueError, OverflowError):
            return 'table_ms holds something else than rows of numbers'
        if not all(row.ndim == 1 and len(row) and np.isfinite(row).all() and (row > 0).all() for row in rows):
            return 'latencies must be positive numbers, a row for every position'
        if found['space'] == self.space.spec() and tuple(map(len, rows[1:])) != self.choices:
            return f'table_ms has rows of {[len(row) for row in rows[1:]]}; this space has choices {self.choices}'
        return None

    def numbers(self) -> list[Any]:
        return [self.measurement[name] for name in ('table_ms', 'constant_ms')]

    @cached_property
    def _sums(self) -> AdditiveTable:
        rows, constant = self.numbers()
        return AdditiveTable(self.name, self.scope, [np.array(row, dtype=float) for row in rows], float(constant))

    def totals(self, ids: np.ndarray) -> np.ndarray:
        """See :meth:`CostModel.totals`."""
        return self._sums.totals(ids)

    def bounds(self) -> tuple[float, float]:
        return self._sums.bounds()
