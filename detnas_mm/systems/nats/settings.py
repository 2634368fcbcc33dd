"""Resolve the settings of a :class:`DilationSpace` for a table of convolutions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from detnas_mm.checks import checked_input_size, whole
from detnas_mm.errors import DetNASError
from detnas_mm.systems.nats.convs import Genotype, SearchedConv, genotype_text, split_units

#: Value of ``groups`` for one unit per group.
UNIT = 'unit'
#: Genotypes of NATS (section 4.1): of the stages before the last one, and of the last one.
_NATS = ((1, 1), (2, 2), (3, 3), (1, 3), (3, 1))
_NATS_LAST = (*_NATS, (4, 4), (5, 5), (1, 5), (5, 1))

#: Defaults by name. ``stages``: ``'all'``, or ``'later'``: all but the first.
PRESETS: dict[str, dict[str, Any]] = {
    'nats': dict(stages='later', genotypes=_NATS, last=_NATS_LAST, groups=16),
    'ic-conv': dict(stages='all', genotypes=4, last=4, groups=UNIT),
}


def genotypes_by_stage(stages: Sequence[str], given: Any, preset: str) -> dict[str, tuple[Genotype, ...]]:
    """Returns the genotypes of every stage.

    Args:
        stages: Names of the stages, in order.
        given: A list for all stages, or a dict of lists by stage; a number means all pairs up to it; None means the
            genotypes of the preset.
        preset: A key of :data:`PRESETS`.

    Raises:
        DetNASError: If a genotype is not a pair of dilations, or a stage is missing or unknown.
    """
    if isinstance(given, Mapping):
        if set(given) != set(stages):
            raise DetNASError(
                f'genotypes must have one list for each of the stages {", ".join(stages)}; got lists for '
                f'{", ".join(map(str, given))}.'
            )
        return {stage: _checked(given[stage]) for stage in stages}
    if given is not None:
        return dict.fromkeys(stages, _checked(given))
    defaults = PRESETS[preset]
    return dict.fromkeys(stages, _checked(defaults['genotypes'])) | {stages[-1]: _checked(defaults['last'])}


def _checked(given: Any) -> tuple[Genotype, ...]:
    if isinstance(given, int) and not isinstance(given, bool):
        numbers = range(1, whole('genotypes', given, 1) + 1)
        return tuple(itertools.product(numbers, numbers))
    several = isinstance(given, Sequence) and not isinstance(given, str)
    pairs = [tuple(one) if isinstance(one, Sequence) else (one,) for one in given] if several else []
    if not pairs or not all(len(one) == 2 and all(type(d) is int and d > 0 for d in one) for one in pairs):
        raise DetNASError(
            f'genotypes must be pairs of dilations (height, width) of at least 1, such as [(1, 1), (2, 2), (1, 3)], or '
            f'a number for all pairs up to it; got {given!r}.'
        )
    if len(set(pairs)) < len(pairs):
        raise DetNASError(f'genotypes must not contain a pair twice; got {given!r}.')
    return tuple((height, width) for height, width in pairs)


def split(conv: SearchedConv, groups: Any, channels: Any, strict: bool) -> tuple[int, ...]:
    """Returns the sizes of a convolution's groups, in units.

    Args:
        conv: The convolution.
        groups: Number of groups, or ``'unit'`` for one unit per group; None if ``channels`` is given.
        channels: Minimum number of channels per group, or None.
        strict: Require groups of equal size and of exactly the requested number.

    Raises:
        DetNASError: If a number is invalid, or ``strict`` is set and the units do not divide; names the convolution.
    """
    if groups is not None and channels is not None:
        raise DetNASError(f'Set groups or channels_per_group, not both; got {groups!r} and {channels!r}.')
    if channels is not None:
        count = max(1, conv.channels // whole('channels_per_group', channels, 1))
        asked = f'groups of {channels} channels'
    else:
        count = conv.units if groups == UNIT else whole("groups (or 'unit')", groups, 1)
        asked = f'{count} equal groups'
    sizes = split_units(conv.units, count)
    equal = len(sizes) == count and len(set(sizes)) == 1
    if strict and not (equal and channels in (None, sizes[0] * conv.unit)):
        raise DetNASError(
            f'{conv.name} has {conv.units} units of {conv.unit} channel{"s" if conv.unit > 1 else ""}, which do not '
            f'divide into {asked}. Use another number, or strict=False to allow groups that differ by one unit.'
        )
    return sizes


def equal_genotypes(
    convs: Sequence[SearchedConv], genotypes: Mapping[str, Sequence[Genotype]], input_size: Any
) -> list[str]:
    """Returns a warning for every stage whose maps are so small that some genotypes give equal outputs.

    Args:
        convs: The table of convolutions.
        genotypes: Genotypes by stage.
        input_size: (height, width) of the images in pixels.
    """
    size, lines = checked_input_size(input_size), []
    for stage, several in genotypes.items():
        own = [conv for conv in convs if conv.stage == stage]
        height, width = (-(-pixels // max(conv.stride for conv in own)) for pixels in size)
        found: dict[tuple[int, int], list[str]] = {}
        for genotype in several:
            reach = min(genotype[0] * own[-1].dilation, height), min(genotype[1] * own[-1].dilation, width)
            found.setdefault(reach, []).append(genotype_text(genotype))
        equal = [' = '.join(names) for names in found.values() if len(names) > 1]
        if equal:
            lines.append(
                f'{stage}: on images of {size[0]}x{size[1]} its smallest maps have {height}x{width} pixels, and these '
                f'genotypes give equal outputs on them: {", ".join(equal)}. Use larger images, or remove genotypes.'
            )
    return lines
