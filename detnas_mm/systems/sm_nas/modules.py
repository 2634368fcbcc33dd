"""A detector of the modular space as a value, its text, and the partial order of such detectors."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detnas_mm.checks import listed, real, whole
from detnas_mm.errors import DetNASError
from detnas_mm.systems.sm_nas.codes import BlockCode, check_block, inserted_ones

#: Stages of a whole backbone, at strides 4, 8, 16 and 32.
STAGES = 4

_TEXT = re.compile(r'(?P<seed>[^:]+):(?P<block>[a-z]+)_(?P<base>\d+)_(?P<code>[^_]*)_(?P<neck>\d+)')
#: How one is written.
EXAMPLE = "'seed1:basic_64_1-21-21-12_128'"


@dataclass(frozen=True)
class Modules:
    """An architecture, read.

    Attributes:
        seed: Name of the combination of modules, such as ``'seed1'``.
        block: Kind of its blocks.
        base: Base channels of the backbone.
        code: Code of the backbone.
        neck: Output channels of the neck.
    """

    seed: str
    block: str
    base: int
    code: str
    neck: int

    def __str__(self) -> str:
        return f'{self.seed}:{self.block}_{self.base}_{self.code}_{self.neck}'

    @classmethod
    def parse(cls, text: str) -> Modules:
        """Reads what :class:`str` writes.

        Raises:
            DetNASError: If it is another text.
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise DetNASError(f'A detector is written as SEED:BLOCK_BASE_STAGES_NECK, as in {EXAMPLE}; got {text!r}.')
        parts = found.groupdict()
        code = str(BlockCode.parse(parts['code']))
        return cls(parts['seed'], parts['block'], int(parts['base']), code, int(parts['neck']))


def precedes(x: Modules, y: Modules) -> bool:
    """Whether x comes before y: of one combination and kind of blocks, and x shallower or narrower.

    Either y's code arises from x's by inserting blocks ``1``, at equal channels of base and neck; or codes are equal,
    and neither base nor neck of x is larger. A net does not come before itself.
    """
    if (x.seed, x.block) != (y.seed, y.block) or x == y:
        return False
    if x.code == y.code:
        return x.base <= y.base and x.neck <= y.neck
    return (x.base, x.neck) == (y.base, y.neck) and inserted_ones(BlockCode.parse(x.code), BlockCode.parse(y.code))


@dataclass(frozen=True)
class Limits:
    """Which backbones and necks there are.

    Attributes:
        base: Base channels, in their order.
        neck: Output channels of the neck, in their order.
        doublings: Blocks of a code that double the channels, if it has four stages; one less for each stage less.
        depth: Smallest and largest number of blocks.
    """

    base: tuple[int, ...]
    neck: tuple[int, ...]
    doublings: int
    depth: tuple[int, int]

    @classmethod
    def checked(cls, base: Sequence[int], neck: Sequence[int], doublings: int, depth: Sequence[int]) -> Limits:
        """The limits that a config gives.

        Raises:
            DetNASError: If one does not fit; names it.
        """
        values = [_values('base', base), _values('neck', neck)]
        for value in values[0]:
            check_block('basic', value)
        least = max(STAGES, whole('search.space.doublings', doublings))
        pair = listed('search.space.depth', depth, '(5, 35)')
        if len(pair) != 2 or not all(type(n) is int for n in pair) or not least <= pair[0] <= pair[1]:
            raise DetNASError(
                f'search.space.depth must be the smallest and the largest number of blocks, such as (5, 35), {least} '
                f'at least for {STAGES} stages and {doublings} doublings; got {depth!r}.'
            )
        return cls(values[0], values[1], doublings, (pair[0], pair[1]))

    def doublings_of(self, stages: int) -> int:
        """How many blocks double the channels in codes of so many stages."""
        return max(self.doublings - (STAGES - stages), 0)

    def codes(self, stages: int) -> int:
        """How many codes of so many stages there are."""
        low, high = self.depth
        doublings = self.doublings_of(stages)
        return sum(math.comb(n, doublings) * math.comb(n - 1, stages - 1) for n in range(low, high + 1))

    def broken(self, base: int, code: str, neck: int, stages: int | None = None) -> str:
        """Why a backbone and a neck are not within these limits; '' if they are.

        Args:
            base: Base channels of the backbone.
            code: Its code.
            neck: Output channels of the neck.
            stages: How many stages the code must have; None if it may have one to four.
        """
        blocks = BlockCode.parse(code)
        low, high = self.depth
        count = len(blocks.stages)
        if base not in self.base:
            return f'its base {base} is none of {", ".join(map(str, self.base))}'
        if neck not in self.neck:
            return f'{neck} channels of its neck are none of {", ".join(map(str, self.neck))}'
        if count > STAGES or count != (stages or count):
            return f'its code {code} has {count} stages, not {stages or STAGES}'
        if blocks.doublings != self.doublings_of(count):
            return f'its code {code} doubles {blocks.doublings} times, not {self.doublings_of(count)}'
        if not low <= blocks.depth <= high:
            return f'its code {code} has {blocks.depth} blocks, not {low} to {high}'
        return ''


def _values(name: str, given: Sequence[int]) -> tuple[int, ...]:
    """Values of a setting in their order.

    Raises:
        DetNASError: If it is no list of positive integers.
    """
    values = listed(f'search.space.{name}', given, '[64, 128]')
    if not values:
        raise DetNASError(f'search.space.{name} is empty; give at least one number of channels.')
    return tuple(sorted({whole(f'search.space.{name}', value, 1) for value in values}))


def share(name: str, value: Any) -> float:
    """Checks a probability.

    Raises:
        DetNASError: If it is no number in [0, 1].
    """
    if not 0 <= real(f'search.space.{name}', value) <= 1:
        raise DetNASError(f'search.space.{name} must lie in [0, 1]; got {value!r}.')
    return value


def moved(value: int, values: Sequence[int], rng: np.random.Generator, prob: float) -> int:
    """A value next to one, with that probability; else itself."""
    place = values.index(value)
    near = [values[i] for i in (place - 1, place + 1) if 0 <= i < len(values)]
    moves, pick = rng.random() < prob, rng.random()
    return near[int(pick * len(near))] if moves and near else value
