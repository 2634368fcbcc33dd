"""Codes of backbones such as ``'11-21-21-21'``: parsing, channels, random codes and edits.

``-`` separates stages; ``1`` is a block that keeps the number of channels, ``2`` a block that doubles it, anywhere in a
stage: channels double independently of strides (Yao et al., SM-NAS, AAAI 2020, section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from detnas_mm.checks import whole
from detnas_mm.errors import DetNASError

#: Types of blocks, each with the ratio of its output channels to its own channels.
EXPANSION = {'basic': 1, 'bottleneck': 4, 'resnext': 4}
#: Codes of ResNet-18, and of ResNet-34 and ResNet-50.
RESNET18, RESNET50 = '11-21-21-21', '111-2111-211111-211'
_STAGE_END = '-'


@dataclass(frozen=True)
class BlockCode:
    """Blocks of a backbone by stage.

    Attributes:
        stages: For each stage, the factor (1 or 2) of each block on the channels of the block before it.
    """

    stages: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.stages or not all(stage and set(stage) <= {1, 2} for stage in self.stages):
            raise DetNASError(
                f'A code has stages of at least one block each, and blocks are 1 or 2; got {self.stages!r}.'
            )

    @classmethod
    def parse(cls, text: str | BlockCode) -> BlockCode:
        """Parses a code; returns a :class:`BlockCode` unchanged.

        Raises:
            DetNASError: If it is malformed; names the position, counted from 1.
        """
        if isinstance(text, BlockCode):
            return text
        what = "a code has a 1 (channels stay) or a 2 (channels double) for each block and '-' between stages, such as"
        if not isinstance(text, str) or not text:
            raise DetNASError(f'{what[0].upper()}{what[1:]} {RESNET18!r}; got {text!r}.')
        for position, symbol in enumerate(text, 1):
            if symbol not in '12-':
                raise DetNASError(f'Code {text!r}: {symbol!r} at position {position} is unknown; {what} {RESNET18!r}.')
            if symbol == _STAGE_END and (position in (1, len(text)) or text[position - 2] == _STAGE_END):
                raise DetNASError(
                    f"Code {text!r}: the '-' at position {position} makes a stage without a block; {what} {RESNET18!r}."
                )
        return cls(tuple(tuple(map(int, stage)) for stage in text.split(_STAGE_END)))

    def __str__(self) -> str:
        return _STAGE_END.join(''.join(map(str, stage)) for stage in self.stages)

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return sum(map(len, self.stages))

    @property
    def doublings(self) -> int:
        """Number of blocks that double the channels."""
        return sum(stage.count(2) for stage in self.stages)

    def widths(self, base: int) -> tuple[tuple[int, ...], ...]:
        """Returns the own channels of each block by stage: those of its 3×3 convolution, or half of them in ResNeXt.

        Args:
            base: Output channels of the stem.
        """
        width, widths = base, []
        for stage in self.stages:
            widths.append(tuple(width := width * times for times in stage))
        return tuple(widths)

    def channels(self, base: int, block: str = 'basic') -> tuple[int, ...]:
        """Returns the output channels of each stage, for ``in_channels`` of a neck.

        Args:
            base: Output channels of the stem.
            block: One of :data:`EXPANSION`.

        Raises:
            DetNASError: If ``base`` or ``block`` is not valid.
        """
        check_block(block, base)
        return tuple(widths[-1] * EXPANSION[block] for widths in self.widths(base))


def check_block(block: str, base: int) -> None:
    """Checks type of blocks and base channels.

    Raises:
        DetNASError: If the block is unknown or the base is odd; says what is allowed.
    """
    if block not in EXPANSION:
        raise DetNASError(f'block must be one of {", ".join(map(repr, EXPANSION))}; got {block!r}.')
    if whole('base', base, 2) % 2:
        raise DetNASError(
            f'base must be even, since the first convolution of the stem has base / 2 channels; got {base}.'
        )


def random_code(
    rng: np.random.Generator, depth: tuple[int, int] = (5, 35), doublings: int = 3, stages: int = 4
) -> BlockCode:
    """Draws a code: uniformly its depth, the blocks that double the channels, and the borders of stages.

    Args:
        rng: Source of randomness.
        depth: Minimum and maximum number of blocks.
        doublings: Number of blocks that double the channels; the first block may be one.
        stages: Number of stages.

    Raises:
        DetNASError: If the minimum depth is too small for the stages or doublings.
    """
    least, most = depth
    if not max(stages, doublings, 1) <= least <= most:
        raise DetNASError(
            f'depth must be (minimum, maximum) number of blocks, at least {max(stages, doublings)} for {stages} stages '
            f'and {doublings} doublings; got {depth}.'
        )
    blocks = int(rng.integers(least, most + 1))
    doubling = set(rng.choice(blocks, doublings, replace=False).tolist())
    cuts = [0, *sorted(rng.choice(np.arange(1, blocks), stages - 1, replace=False).tolist()), blocks]
    symbols = [2 if i in doubling else 1 for i in range(blocks)]
    return BlockCode(tuple(tuple(symbols[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)))


def insertions(code: BlockCode) -> list[BlockCode]:
    """Returns the codes with a ``1`` inserted at each position of the text, both ends included; some are equal."""
    text = str(code)
    return [BlockCode.parse(f'{text[:i]}1{text[i:]}') for i in range(len(text) + 1)]


def removals(code: BlockCode) -> list[BlockCode]:
    """Returns the codes with one ``1`` removed, for each that is not alone in its stage; some are equal."""
    text = str(code)
    return _well_formed(text[:i] + text[i + 1 :] for i, symbol in enumerate(text) if symbol == '1')


def swaps(code: BlockCode, radius: int = 1) -> list[BlockCode]:
    """Returns the other codes in which a ``2`` or a ``-`` is swapped with a symbol near it.

    Args:
        code: The code.
        radius: Maximum distance of the two symbols.
    """
    text = str(code)
    found = []
    for i, symbol in enumerate(text):
        for j in range(max(0, i - radius), min(len(text), i + radius + 1)) if symbol != '1' else ():
            swapped = list(text)
            swapped[i], swapped[j] = swapped[j], swapped[i]
            if text[i] != text[j]:
                found.append(''.join(swapped))
    return _well_formed(found)


def _well_formed(texts: Iterable[str]) -> list[BlockCode]:
    return [BlockCode.parse(text) for text in texts if all(text.split(_STAGE_END))]


#: Types of edits.
EDITS: tuple[Callable[[BlockCode], list[BlockCode]], ...] = (insertions, removals, swaps)


def edit(code: BlockCode, rng: np.random.Generator, radius: int = 1) -> BlockCode:
    """Draws an edit: first its type (insert a ``1``, remove a ``1``, swap), then one of the codes that it can give.

    Args:
        code: The code.
        rng: Source of randomness.
        radius: See :func:`swaps`.

    Returns:
        The new code; the old one if an edit of the drawn type is not possible.
    """
    kind = EDITS[int(rng.integers(len(EDITS)))]
    places = swaps(code, radius) if kind is swaps else kind(code)
    return places[int(rng.integers(len(places)))] if places else code


def inserted_ones(x: BlockCode, y: BlockCode) -> bool:
    """Returns whether y is x with ``1`` blocks inserted, or x itself: x is then not deeper and nowhere wider.

    This is the partial order of Li et al., Partial Order Pruning, CVPR 2019, at equal channels of stem and neck.
    """
    ones_x, others_x = _runs(x)
    ones_y, others_y = _runs(y)
    return others_x == others_y and all(a <= b for a, b in zip(ones_x, ones_y, strict=True))


def _runs(code: BlockCode) -> tuple[list[int], str]:
    """Returns the lengths of the runs of ``1`` before, between and after the other symbols, and these symbols."""
    others = str(code).replace('1', '')
    return [len(run) for run in str(code).replace('2', _STAGE_END).split(_STAGE_END)], others
