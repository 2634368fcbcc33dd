"""Vectorised rules of MAE-DET's space, as tables over a grid of widths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from detnas_mm.errors import DetNASError

_EPS = 1e-9


class Rules:
    """Rules of a space, for structures given as columns: checks, draws, changes and repairs them.

    Columns are ``widths`` of shape (n, blocks + 1), the stem's first, and ``kernels``, ``depths``, ``btns`` of shape
    (n, blocks). The rules:

    1. widths are multiples of ``width_step`` within ``widths`` (the stem's within ``stem_widths``);
    2. a block's width is ``growth[0]`` to ``growth[1]`` times that of the block before it;
    3. kernels are among ``kernels``, depths within the block's ``depths``;
    4. bottlenecks are multiples of ``bottleneck_step`` within ``bottlenecks`` and ``bottleneck_ratio`` times the width.

    Args:
        spec: A specification as :func:`~detnas_mm.systems.mae_det.presets.checked` returns it.

    Raises:
        ValueError: If no structure obeys the rules, or the allowed widths of a block have gaps.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.step, self.btn_step = spec['width_step'], spec['bottleneck_step']
        self.kernels = np.array(spec['kernels'])
        self.depths = np.array(spec['depths'])
        self.growth = [tuple(pair) for pair in spec['growth']]
        limits = [spec['stem_widths'], *[spec['widths']] * len(spec['strides'])]
        self.top = max(high for _, high in limits) // self.step
        grid = self.step * np.arange(self.top + 1)
        # Smallest and largest bottleneck of every width, in steps; where none is allowed, low is above high.
        (least, most), ratio = spec['bottlenecks'], spec['bottleneck_ratio']
        self.btn_low = np.maximum(_ceil(grid * ratio[0] / self.btn_step), -(-least // self.btn_step))
        self.btn_high = np.minimum(_floor(grid * ratio[1] / self.btn_step), most // self.btn_step)
        fits = self.btn_low <= self.btn_high
        # Per position, the widths (in steps) that the later blocks can follow, computed from the last position back.
        self.low, self.high = [0] * len(limits), [0] * len(limits)
        alive = np.ones(0, dtype=bool)
        for number in reversed(range(len(limits))):
            low, high = limits[number]
            own = (grid >= low) & (grid <= high) & (grid > 0)
            own &= fits if number else True
            if number + 1 < len(limits):
                below = np.concatenate([[0], np.cumsum(alive)])
                first, last = self._growth_of(number + 1, np.arange(self.top + 1))
                own &= below[last + 1] > below[np.minimum(first, last + 1)]
            alive = own
            found = np.flatnonzero(alive)
            if not len(found):
                raise DetNASError(
                    f'The space is empty: no width of block {number} (0: the stem) obeys the rules together with the '
                    f'blocks after it. Widen widths, growth or bottleneck_ratio.'
                )
            if len(found) != found[-1] - found[0] + 1:
                raise DetNASError(
                    f'The allowed widths of block {number} have gaps, since growth or bottleneck_ratio is too narrow '
                    f'for the steps. Widen growth or bottleneck_ratio, or lower width_step or bottleneck_step.'
                )
            self.low[number], self.high[number] = int(found[0]), int(found[-1])

    def _growth_of(self, number: int, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns smallest and largest width (in steps) by the growth rule, for widths of the block before."""
        low, high = self.growth[number - 1]
        return _ceil(before * low), np.minimum(_floor(before * high), self.top)

    def out_range(self, number: int, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns smallest and largest width (in steps) that both the block before and the blocks after it allow."""
        if number == 0:
            return np.full(len(before), self.low[0]), np.full(len(before), self.high[0])
        low, high = self._growth_of(number, before)
        return np.maximum(low, self.low[number]), np.minimum(high, self.high[number])

    def _in_range(self, number: int, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns smallest and largest width (in steps) that the block before ``number`` may have."""
        low, high = self.growth[number - 1]
        return _ceil(after / high), _floor(after / low)

    # -- the whole space ----------------------------------------------------------------------------------------

    def count(self) -> int:
        """Returns the number of structures."""
        room = np.maximum(self.btn_high - self.btn_low + 1, 0).tolist()
        ways = [1] * (self.top + 1)
        for number in reversed(range(len(self.growth) + 1)):
            if number == 0:
                return sum(ways[self.low[0] : self.high[0] + 1])
            choices = len(self.kernels) * int(self.depths[number - 1, 1] - self.depths[number - 1, 0] + 1)
            sums = [0]
            for width in range(self.top + 1):
                sums.append(sums[-1] + ways[width] * room[width] * choices)
            first, last = self.out_range(number, np.arange(self.top + 1))
            ways = [sums[b + 1] - sums[a] if a <= b else 0 for a, b in zip(first.tolist(), last.tolist(), strict=True)]
        raise AssertionError('unreachable: the stem is a position')

    def extreme(self, largest: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Returns the columns of the structure that is smallest, or largest, in every gene (limits are monotonic)."""
        side = int(largest)
        steps = [np.array([(self.low, self.high)[side][0]])]
        for number in range(1, len(self.growth) + 1):
            steps.append(self.out_range(number, steps[-1])[side])
        widths = np.stack(steps, axis=1)
        btns = (self.btn_low, self.btn_high)[side][widths[:, 1:]]
        kernels = np.full(btns.shape, (self.kernels.min(), self.kernels.max())[side])
        return widths * self.step, kernels, self.depths[None, :, side].copy(), btns * self.btn_step

    def draw(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Draws columns of structures; every gene is uniform over the values that the genes before it allow."""
        blocks = len(self.growth)
        steps = np.empty((count, blocks + 1), dtype=np.int64)
        for number in range(blocks + 1):
            low, high = self.out_range(number, steps[:, number - 1])
            steps[:, number] = rng.integers(low, high + 1)
        kernels = self.kernels[rng.integers(len(self.kernels), size=(count, blocks))]
        depths = rng.integers(self.depths[:, 0], self.depths[:, 1] + 1, size=(count, blocks))
        btns = rng.integers(self.btn_low[steps[:, 1:]], self.btn_high[steps[:, 1:]] + 1)
        return steps * self.step, kernels, depths, btns * self.btn_step

    # -- changes, in place --------------------------------------------------------------------------------------

    def set_width(
        self, widths: np.ndarray, btns: np.ndarray, rows: np.ndarray, number: int, wanted: np.ndarray
    ) -> None:
        """Sets widths to the allowed values nearest to ``wanted``, and bottlenecks to values allowed with them."""
        before = widths[rows, number - 1] // self.step if number else np.zeros(len(rows), dtype=np.int64)
        low, high = self.out_range(number, before)
        if number < len(self.growth):
            at_least, at_most = self._in_range(number + 1, widths[rows, number + 1] // self.step)
            low, high = np.maximum(low, at_least), np.minimum(high, at_most)
        widths[rows, number] = self.step * np.clip(_nearest(wanted / self.step), low, high)
        if number:
            self.set_bottleneck(widths, btns, rows, number, btns[rows, number - 1])

    def set_bottleneck(
        self, widths: np.ndarray, btns: np.ndarray, rows: np.ndarray, number: int, wanted: np.ndarray
    ) -> None:
        """Sets bottlenecks to the allowed values nearest to ``wanted``."""
        own = widths[rows, number] // self.step
        steps = np.clip(_nearest(wanted / self.btn_step), self.btn_low[own], self.btn_high[own])
        btns[rows, number - 1] = steps * self.btn_step

    def set_depth(self, depths: np.ndarray, rows: np.ndarray, number: int, wanted: np.ndarray) -> None:
        """Sets depths to the allowed values nearest to ``wanted``."""
        depths[rows, number - 1] = np.clip(wanted, *self.depths[number - 1])

    def next_kernel(self, kernels: np.ndarray, rows: np.ndarray, number: int, ahead: np.ndarray) -> None:
        """Replaces kernels by those 1 + ``ahead`` positions later in the list of kernels, cyclically."""
        own = np.searchsorted(self.kernels, kernels[rows, number - 1])
        kernels[rows, number - 1] = self.kernels[(own + 1 + ahead) % len(self.kernels)]

    def repair(self, widths: np.ndarray, btns: np.ndarray) -> None:
        """Sets widths and bottlenecks, from the stem on, to the nearest allowed values; members are not changed."""
        rows = np.arange(len(widths))
        for number in range(widths.shape[1]):
            low, high = self.out_range(number, widths[:, number - 1] // self.step)
            widths[:, number] = self.step * np.clip(widths[:, number] // self.step, low, high)
            if number:
                self.set_bottleneck(widths, btns, rows, number, btns[:, number - 1])

    # -- checks -------------------------------------------------------------------------------------------------

    def hold(self, widths: np.ndarray, kernels: np.ndarray, depths: np.ndarray, btns: np.ndarray) -> np.ndarray:
        """Returns a boolean array of shape (n,): True for structures that obey all rules."""
        good = np.ones(len(widths), dtype=bool)
        for _, ok, _ in self._checks(widths, kernels, depths, btns):
            good &= ok
        return good

    def first_broken(self, widths: np.ndarray, kernels: np.ndarray, depths: np.ndarray, btns: np.ndarray) -> str:
        """Returns the first rule that the first structure violates: block, value and allowed values."""
        for what, ok, allowed in self._checks(widths, kernels, depths, btns):
            if not ok[0]:
                return f'{what}; allowed: {allowed}.'
        return 'it obeys all rules.'

    def _checks(
        self, widths: np.ndarray, kernels: np.ndarray, depths: np.ndarray, btns: np.ndarray
    ) -> Iterable[tuple[str, np.ndarray, str]]:
        """Yields for every rule: the checked value (of the first structure), a boolean array, the allowed values."""
        steps = np.clip(widths // self.step, 0, self.top)
        for number in range(widths.shape[1]):
            own = widths[:, number]
            place = f'block {number}' if number else 'the stem (block 0)'
            # The limit of this position, including what the blocks after it require.
            low, high = self.low[number], self.high[number]
            yield (f'{place} has width {_first(own)}',
                   (own % self.step == 0) & (own >= low * self.step) & (own <= high * self.step),
                   f'multiples of {self.step} in {low * self.step}–{high * self.step}')  # fmt: skip
            if number == 0:
                continue
            low_now, high_now = self._growth_of(number, steps[:, number - 1])
            ratio = self.growth[number - 1]
            yield (f'{place} has width {_first(own)} after {_first(widths[:, number - 1])} (rule growth)',
                   (steps[:, number] >= low_now) & (steps[:, number] <= high_now),
                   f'{ratio[0]:g} to {ratio[1]:g} times the width before it')  # fmt: skip
            kernel, depth, btn = kernels[:, number - 1], depths[:, number - 1], btns[:, number - 1]
            yield (f'{place} has kernel {_first(kernel)}', np.isin(kernel, self.kernels), str(self.kernels.tolist()))
            least, most = self.depths[number - 1]
            yield (f'{place} has depth {_first(depth)}', (depth >= least) & (depth <= most), f'{least}–{most}')
            btn_low, btn_high = (t[steps[:, number]] * self.btn_step for t in (self.btn_low, self.btn_high))
            yield (f'{place} has bottleneck {_first(btn)} at width {_first(own)} (rule bottleneck_ratio)',
                   (btn % self.btn_step == 0) & (btn >= btn_low) & (btn <= btn_high),
                   f'multiples of {self.btn_step} in {_first(btn_low)}–{_first(btn_high)}')  # fmt: skip


def _first(values: np.ndarray) -> Any:
    return values[0] if len(values) else None


def _ceil(values: np.ndarray) -> np.ndarray:
    return np.ceil(values - _EPS).astype(np.int64)


def _floor(values: np.ndarray) -> np.ndarray:
    return np.floor(values + _EPS).astype(np.int64)


def _nearest(values: np.ndarray) -> np.ndarray:
    return np.floor(values + 0.5).astype(np.int64)
