"""Detectors of the modular space as values: their text, their limits and their partial order."""

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
#: An example of the text.
EXAMPLE = "'seed1:basic_64_1-21-21-12_128'"


@dataclass(frozen=True)
class Modules:
    """An architecture of the modular space.

    Attributes:
        seed: Name of the combination of modules, such as ``'seed1'``.
        block: Type of its blocks.
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
        """Parses the text that :class:`str` gives.

        Raises:
            DetNASError: If it has another form.
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise DetNASError(f'A detector is written as SEED:BLOCK_BASE_STAGES_NECK, such as {EXAMPLE}; got {text!r}.')
        parts = found.groupdict()
        code = str(BlockCode.parse(parts['code']))
        return cls(parts['seed'], parts['block'], int(parts['base']), code, int(parts['neck']))


def precedes(x: Modules, y: Modules) -> bool:
    """Returns whether x precedes y: same combination and type of blocks, and x shallower or narrower.

    Either y's code is x's with ``1`` blocks inserted, and base and neck channels are equal; or the codes are equal, and
    neither base nor neck channels of x are larger. A net does not precede itself.
    """
    if (x.seed, x.block) != (y.seed, y.block) or x == y:
        return False
    if x.code == y.code:
        return x.base <= y.base and x.neck <= y.neck
    return (x.base, x.neck) == (y.base, y.neck) and inserted_ones(BlockCode.parse(x.code), BlockCode.parse(y.code))


@dataclass(frozen=True)
class Limits:
    """Limits of backbones and necks.

    Attributes:
        base: Allowed base channels, increasing.
        neck: Allowed output channels of the neck, increasing.
        doublings: Number of blocks that double the channels in a code of four stages; one less for each stage less.
        depth: Minimum and maximum number of blocks.
    """

    base: tuple[int, ...]
    neck: tuple[int, ...]
    doublings: int
    depth: tuple[int, int]

    @classmethod
    def checked(cls, base: Sequence[int], neck: Sequence[int], doublings: int, depth: Sequence[int]) -> Limits:
        """Checks the limits of a config.

        Raises:
            DetNASError: If one is not valid; names it.
        """
        values = [_values('base', base), _values('neck', neck)]
        for value in values[0]:
            check_block('basic', value)
        least = max(STAGES, whole('search.space.doublings', doublings))
        pair = listed('search.space.depth', depth, '(5, 35)')
        if len(pair) != 2 or not all(type(n) is int for n in pair) or not least <= pair[0] <= pair[1]:
            raise DetNASError(
                f'search.space.depth must be the minimum and maximum number of blocks, such as (5, 35), and at least '
                f'{least} for {STAGES} stages and {doublings} doublings; got {depth!r}.'
            )
        return cls(values[0], values[1], doublings, (pair[0], pair[1]))

    def doublings_of(self, stages: int) -> int:
        """Returns the number of blocks that double the channels in codes with these many stages."""
        return max(self.doublings - (STAGES - stages), 0)

    def codes(self, stages: int) -> int:
        """Returns the number of codes with these many stages."""
        low, high = self.depth
        doublings = self.doublings_of(stages)
        return sum(math.comb(n, doublings) * math.comb(n - 1, stages - 1) for n in range(low, high + 1))

    def broken(self, base: int, code: str, neck: int, stages: int | None = None) -> str:
        """Returns the reason why a backbone and a neck are outside these limits; '' if they are within.

        Args:
            base: Base channels of the backbone.
            code: Its code.
            neck: Output channels of the neck.
            stages: Number of stages that the code must have; None for one to four.
        """
        blocks = BlockCode.parse(code)
        low, high = self.depth
        count = len(blocks.stages)
        if base not in self.base:
            return f'its base {base} is not one of {", ".join(map(str, self.base))}'
        if neck not in self.neck:
            return f'its neck has {neck} channels, not one of {", ".join(map(str, self.neck))}'
        if count > STAGES or count != (stages or count):
            return f'its code {code} has {count} stages, not {stages or STAGES}'
        if blocks.doublings != self.doublings_of(count):
            return f'its code {code} doubles the channels {blocks.doublings} times, not {self.doublings_of(count)}'
        if not low <= blocks.depth <= high:
            return f'its code {code} has {blocks.depth} blocks, not {low} to {high}'
        return ''


def _values(name: str, given: Sequence[int]) -> tuple[int, ...]:
    """Returns the values of a setting, increasing and without repetitions.

    Raises:
        DetNASError: If it is not a list of positive integers.
    """
    values = listed(f'search.space.{name}', given, '[64, 128]')
    if not values:
        raise DetNASError(f'search.space.{name} is empty; give at least one number of channels.')
    return tuple(sorted({whole(f'search.space.{name}', value, 1) for value in values}))


def share(name: str, value: Any) -> float:
    """Checks a probability of ``search.space``.

    Raises:
        DetNASError: If it is not a number in [0, 1].
    """
    if not 0 <= real(f'search.space.{name}', value) <= 1:
        raise DetNASError(f'search.space.{name} must lie in [0, 1]; got {value!r}.')
    return value


def moved(value: int, values: Sequence[int], rng: np.random.Generator, prob: float) -> int:
    """Returns a neighbour of a value with probability ``prob``, else the value."""
    place = values.index(value)
    near = [values[i] for i in (place - 1, place + 1) if 0 <= i < len(values)]
    moves, pick = rng.random() < prob, rng.random()
    return near[int(pick * len(near))] if moves and near else value
