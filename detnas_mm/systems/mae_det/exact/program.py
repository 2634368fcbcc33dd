"""Dynamic programming over widths and depths: maximises the score minus priced costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detnas_mm.errors import DetNASError
from detnas_mm.systems.mae_det.blocks import BlockSum, places
from detnas_mm.systems.mae_det.exact.shapes import Shape, logarithmic, quadratic
from detnas_mm.systems.mae_det.space import MAEDetSpace

#: Largest number of values of a block (kernels * depths * pairs of widths): some gigabytes of arrays.
_MOST = 30_000_000


@dataclass
class _Block:
    """Entries of one super-block: allowed pairs of widths (in, out), sorted by out.

    A pair has one entry for every range of bottlenecks, ``btn_low`` to ``btn_high`` in steps, in which every cost is
    one quadratic. ``score`` and ``costs`` are the shapes of the first and of each further bottleneck, of shape
    (kernels, pairs).
    """

    cin: np.ndarray
    cout: np.ndarray
    starts: np.ndarray
    outs: np.ndarray
    depths: np.ndarray
    btn_low: np.ndarray
    btn_high: np.ndarray
    score: tuple[Shape, Shape]
    costs: list[tuple[Shape, Shape]]


class BlockProgram:
    """Maximises score - prices * costs over all structures of a space whose sum of depths is at most a limit.

    Widths form a chain: the best value up to a block depends on the blocks before it only through their last width and
    the depth used so far. For given widths, kernel and depth, only the bottleneck is free, and the value is concave in
    it: a logarithm minus a quadratic without negative coefficients. So the optimum on the grid is one of the two
    neighbours of the root of the derivative. Interpolated costs, such as measured latencies, are such quadratics
    between neighbouring knots, and each range is solved separately.

    Args:
        space: The space.
        score: The score; logarithmic in the bottleneck.
        costs: Costs with a price; quadratic in the bottleneck between neighbouring knots.
        max_depth: Largest sum of depths; None for no limit.

    Raises:
        ValueError: If score or a cost is not of that form, or the grid of the space is too fine.
    """

    def __init__(
        self, space: MAEDetSpace, score: BlockSum, costs: Sequence[BlockSum], max_depth: int | None = None
    ) -> None:
        self.space = space
        self.rules = rules = space.rules
        self.score, self.costs = score, list(costs)
        self.kernels = rules.kernels
        most = int(rules.depths[:, 1].sum())
        self.limited = max_depth is not None and max_depth < most
        self.states = 1 + min(most, max_depth) if max_depth is not None and self.limited else 1
        spec = space.spec()
        self._strides = (spec['stem_stride'], *space.strides)
        self._stem_kernel = spec['stem_kernel']
        stem = rules.step * np.arange(rules.low[0], rules.high[0] + 1)
        self._stem_score = self._stem_values(score, stem)
        self._stem_costs = [self._stem_values(cost, stem) for cost in self.costs]
        self._stem = stem
        self.blocks: list[_Block] = []
        before = stem // rules.step
        for number in range(1, space.num_blocks + 1):
            self.blocks.append(self._make_block(number, before))
            before = self.blocks[-1].outs

    def _stem_values(self, term: BlockSum, stem: np.ndarray) -> np.ndarray:
        place = places(self._strides, term.input_size)[0]
        return np.broadcast_to(np.asarray(term.stem(place, stem, self._stem_kernel), dtype=float), stem.shape)

    def _make_block(self, number: int, before: np.ndarray) -> _Block:
        """Builds pairs and shapes; ``before`` are the widths, in steps, that the block before it can have."""
        rules = self.rules
        low, high = rules.out_range(number, before)
        counts = high - low + 1
        outs = slice(low.min(), high.max() + 1)
        knots = self._knots(number, rules.btn_low[outs].min(), rules.btn_high[outs].max())
        options = len(self.kernels) * int(np.ptp(rules.depths[number - 1]) + 1)
        self._check_size(number, int(counts.sum()) * options)
        cin = np.repeat(np.arange(len(before)), counts)
        first = np.repeat(np.cumsum(counts) - counts, counts)
        cout = np.repeat(low, counts) + np.arange(len(cin)) - first
        # Combine every pair with every range between knots that contains some of its bottlenecks.
        ranges = np.tile(np.arange(len(knots) - 1), len(cin))
        cin, cout = (np.repeat(side, len(knots) - 1) for side in (cin, cout))
        btn_low = np.maximum(rules.btn_low[cout], np.ceil(knots[ranges] / rules.btn_step).astype(int))
        btn_high = np.minimum(rules.btn_high[cout], np.floor(knots[ranges + 1] / rules.btn_step).astype(int))
        order = np.argsort(cout, kind='stable')
        order = order[(btn_low <= btn_high)[order]]
        self._check_size(number, len(order) * options)
        cin, cout, ranges = cin[order], cout[order], ranges[order]
        reached, starts = np.unique(cout, return_index=True)
        widths = before[cin].astype(float) * rules.step, cout.astype(float) * rules.step
        ends = knots[ranges], knots[ranges + 1]
        score, *costs = (
            self._shapes(term, number, logarithmic if term is self.score else quadratic, *widths, *ends)
            for term in (self.score, *self.costs)
        )
        least, most = rules.depths[number - 1]
        return _Block(
            cin, cout, starts, reached, np.arange(least, most + 1), btn_low[order], btn_high[order], score, costs
        )

    def _check_size(self, number: int, values: int) -> None:
        if values > _MOST:
            raise DetNASError(
                f'Block {number} of this space has {values:,} combinations of widths, kernels and depths; exact search '
                f'supports at most {_MOST:,}. Raise width_step, or narrow widths, growth or depths.'
            )

    def _knots(self, number: int, low: int, high: int) -> np.ndarray:
        """Returns the ends of the ranges of bottlenecks in which every cost is one quadratic, ascending.

        Raises:
            ValueError: If a cost is not defined for all bottlenecks of the space, ``low`` to ``high`` in steps.
        """
        least, most = (int(steps) * self.rules.btn_step for steps in (low, high))
        inner: set[int] = set()
        for cost in self.costs:
            own = cost.knots(places(self._strides, cost.input_size)[number])
            if len(own) and not own[0] <= least <= most <= own[-1]:
                raise DetNASError(
                    f'{type(cost).__name__} covers bottlenecks of {own[0]} to {own[-1]} in block {number}; this '
                    f'space has {least} to {most}. Measure a table for this space.'
                )
            inner.update(knot for knot in own if least < knot < most)
        return np.array([least, *sorted(inner), max(most, least + 1)], dtype=float)

    def _shapes(
        self, term: BlockSum, number: int, read: Callable[..., Shape | None], cin: np.ndarray, cout: np.ndarray,
        low: np.ndarray, high: np.ndarray,
    ) -> tuple[Shape, Shape]:  # fmt: skip
        """Returns the shapes of the first bottleneck and of each further one.

        Raises:
            ValueError: If the term does not have the form that ``read`` fits.
        """
        place = places(self._strides, term.input_size)[number]
        kernels = self.kernels[:, None].astype(float)
        found = (
            read(lambda btn: term.first(place, cin, cout, kernels, btn), (len(kernels), len(cin)), low, high),
            read(lambda btn: term.rest(place, cout, kernels, btn), (len(kernels), len(cin)), low, high),
        )
        if found[0] is None or found[1] is None:
            kind = 'the score must be logarithmic' if term is self.score else 'costs must be quadratic'
            raise DetNASError(
                f'Exact search: {kind} in the bottleneck; {type(term).__name__} in stage {place.stage} is not.'
            )
        return found[0], found[1]

    # -- solving ------------------------------------------------------------------------------------------------

    def solve(self, prices: Sequence[float]) -> tuple[float, np.ndarray]:
        """Returns the largest score - prices * costs, and a structure that attains it as a row of genes."""
        reached: Any = np.full((self.states, len(self._stem)), -np.inf)
        reached[0] = self._stem_score - sum(p * c for p, c in zip(prices, self._stem_costs, strict=True))
        history = [reached]
        gains = []
        for block in self.blocks:
            best = self._best_bottleneck(block, prices).max(axis=1)  # over kernels: (depths, pairs)
            gains.append(best)
            reached = np.maximum.reduceat(self._step(reached, block, best), block.starts, axis=1)
            history.append(reached)
        state, last = np.unravel_index(np.argmax(history[-1]), history[-1].shape)
        value = float(history[-1][state, last])
        return value, self._trace(history, gains, prices, int(state), int(last))

    def _step(self, reached: np.ndarray, block: _Block, best: np.ndarray) -> np.ndarray:
        """Returns the values at every (depth used, pair), maximised over the depths of this block."""
        before = reached[:, block.cin]
        if not self.limited:
            return before + best.max(axis=0)
        out = np.full(before.shape, -np.inf)
        for gain, depth in zip(best, block.depths.tolist(), strict=True):
            if depth < self.states:
                np.maximum(out[depth:], before[: self.states - depth] + gain, out=out[depth:])
        return out

    def _parts(
        self, block: _Block, prices: Sequence[float], pick: slice | np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Returns constant, logarithm, linear and square coefficients, of shape (depths, kernels, pairs)."""
        more = (block.depths - 1.0)[:, None, None]
        first, rest = block.score
        constant = first.constant[:, pick] + more * rest.constant[:, pick]
        log = first.log[:, pick] + more * rest.log[:, pick]
        linear, square = np.zeros_like(constant), np.zeros_like(constant)
        for price, (one, other) in zip(prices, block.costs, strict=True):
            if price:
                constant -= price * (one.constant[:, pick] + more * other.constant[:, pick])
                linear += price * (one.linear[:, pick] + more * other.linear[:, pick])
                square += price * (one.square[:, pick] + more * other.square[:, pick])
        return constant, log, linear, square

    def _candidates(
        self, block: _Block, parts: tuple[np.ndarray, ...], pick: slice | np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns the bottlenecks, in steps, on both sides of the real-valued optimum, and their values."""
        constant, log, linear, square = parts
        step = self.rules.btn_step
        # Root of log / b = linear + 2 square b, in a form that is precise for small square; inf where costs are 0.
        with np.errstate(divide='ignore', invalid='ignore'):
            root = 2 * log / (linear + np.sqrt(linear**2 + 8 * square * log))
        root = np.where(np.isnan(root), np.inf, root) / step
        low, high = block.btn_low[pick], block.btn_high[pick]
        below = np.clip(np.floor(np.minimum(root, high)), low, high)
        found = []
        for steps in (below, np.minimum(below + 1, high)):
            btn = steps * step
            found.append((steps, constant + log * np.log(btn) - btn * (linear + square * btn)))
        return found

    def _best_bottleneck(self, block: _Block, prices: Sequence[float]) -> np.ndarray:
        """Returns the values with the best bottleneck, of shape (depths, kernels, pairs)."""
        everything = slice(None)
        (_, one), (_, other) = self._candidates(block, self._parts(block, prices, everything), everything)
        return np.maximum(one, other)

    def _trace(
        self, history: list[np.ndarray], gains: list[np.ndarray], prices: Sequence[float], state: int, place: int
    ) -> np.ndarray:
        """Backtracks from the best final state; returns the structure's genes."""
        parts: list[list[int]] = []
        for number in reversed(range(len(self.blocks))):
            block, before = self.blocks[number], history[number]
            ends = [*block.starts[1:].tolist(), len(block.cin)]
            own = np.arange(block.starts[place], ends[place])
            values = np.full((len(block.depths), len(own)), -np.inf)
            for option, depth in enumerate(block.depths.tolist()):
                source = state - depth if self.limited else 0
                if source >= 0:
                    values[option] = before[source, block.cin[own]] + gains[number][option, own]
            row, column = np.unravel_index(np.argmax(values), values.shape)
            pair, depth = own[column : column + 1], int(block.depths[row])
            options = self._candidates(block, self._parts(block, prices, pair), pair)
            scores = np.stack([value[row, :, 0] for _, value in options])
            side, kernel = np.unravel_index(np.argmax(scores), scores.shape)
            btn = int(options[side][0][row, kernel, 0]) * self.rules.btn_step
            width = int(block.cout[pair[0]]) * self.rules.step
            parts.append([width, int(self.kernels[kernel]), self.space.strides[number], depth, btn])
            place = int(block.cin[pair[0]])
            state = state - depth if self.limited else 0
        head = [int(self._stem[place]), self._stem_kernel, self._strides[0]]
        return np.array([*head, *(gene for part in reversed(parts) for gene in part)])
