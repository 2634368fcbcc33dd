"""Compatibility of factor values: ``needs`` by name, and strides, channels and proposals of the parts."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from detnas_mm.errors import DetNASError
from detnas_mm.systems.sm_nas.conditions import FACTORS, matches
from detnas_mm.systems.sm_nas.factors import Value
from detnas_mm.systems.sm_nas.rendering import cut_for, used_outputs

Table = Mapping[str, Mapping[str, Value]]


def conflict(values: Mapping[str, Value], smallest_map: int) -> str:
    """Returns the reason why a combination of values is not valid; ``''`` if it is valid."""
    for number, first in enumerate(FACTORS):
        for second in FACTORS[number + 1 :]:
            reason = _of_two(values[first], values[second], smallest_map)
            if reason:
                return reason
    return _of_three(values['backbone'], values['neck'], values['head'])


def _of_two(one: Value, other: Value, smallest_map: int) -> str:
    for value, partner in ((one, other), (other, one)):
        patterns = value.needs.get(partner.factor)
        if patterns and not matches(partner.name, patterns):
            return f'{value.title} needs {partner.factor} {" or ".join(map(repr, patterns))}, not {partner.name!r}'
    if (one.factor, other.factor) == ('size', 'neck'):
        side, last = min(one.data['scale']), other.data['strides'][-1]
        if side < smallest_map * last:
            return (
                f'{other.title} ends at stride {last}, where the feature map of {one.title} is smaller than '
                f'{smallest_map} x {smallest_map} (smallest_map)'
            )
    if (one.factor, other.factor) == ('backbone', 'neck'):
        return _of_maps(one, other)
    if (one.factor, other.factor) == ('rpn', 'head'):
        proposes, takes = 'rpn_head' in one.model, 'roi_head' in other.model
        if proposes != takes:
            return (
                f'{other.title} {"needs proposals" if takes else "takes no proposals"}, and {one.title} makes '
                f'{"them" if proposes else "none"}'
            )
    return ''


def _of_maps(backbone: Value, neck: Value) -> str:
    """Checks that a backbone returns the maps that a neck reads, and builds no stage after them."""
    first, last = neck.data['strides']
    found = [stride for _, _, stride in used_outputs(backbone, neck)]
    top = backbone.outputs[-1][2]
    expected = [first]
    while 2 * expected[-1] <= min(last, top):
        expected.append(2 * expected[-1])
    if found != expected:
        return (
            f'{neck.title} reads maps of strides {", ".join(map(str, expected))}, and {backbone.title} returns strides '
            f'{", ".join(str(stride) for _, _, stride in backbone.outputs)}'
        )
    given = (neck.model.get('neck') or {}).get('in_channels')
    channels = [one[1] for one in used_outputs(backbone, neck)]
    if given is not None and list(given) != channels:
        return f'{neck.title} has in_channels={list(given)}, and the maps of {backbone.title} have {channels} channels'
    if 'out_indices' in backbone.not_taken and used_outputs(backbone, neck) != backbone.outputs:
        return (
            f'{neck.title} reads maps of strides {", ".join(map(str, found))}, and {backbone.title}, which has no '
            f'out_indices (not_taken), always returns {", ".join(str(stride) for _, _, stride in backbone.outputs)}'
        )
    if cut_for(backbone, neck) is None:
        return (
            f'{neck.title} ends at stride {last}, and {backbone.title} has no settings that build it up to there '
            f"(cuts={{'{last}': dict(…)}}), so that the outputs of later stages would not be used"
        )
    return ''


def _of_three(backbone: Value, neck: Value, head: Value) -> str:
    """Checks that a RoI head without a neck has a shared head: the backbone's stage after the map that it reads."""
    if 'roi_head' not in head.model or 'neck' in neck.model:
        return ''
    if isinstance(head.model['roi_head'].get('bbox_head'), list):
        return f'{head.title} has several stages, for which mmdet has no shared head as {neck.title} needs it'
    if not backbone.data.get('shared_head'):
        return f'{head.title} with {neck.title} needs a shared_head, which {backbone.title} does not have'
    if all(stride <= neck.data['strides'][-1] for _, _, stride in backbone.outputs):
        return f'{head.title} with {neck.title} needs a shared_head, and {backbone.title} has no stage after that map'
    return ''


def valid_ids(table: Table, smallest_map: int) -> np.ndarray:
    """Returns all valid combinations as positions of values in the table, shape (combinations, factors).

    Raises:
        DetNASError: If a value is in no valid combination; names it and the reason.
    """
    values = [list(table[factor].values()) for factor in FACTORS]
    good = np.ones([len(one) for one in values], dtype=bool)
    for i, firsts in enumerate(values):
        for j in range(i + 1, len(values)):
            pairs = [[not _of_two(one, other, smallest_map) for other in values[j]] for one in firsts]
            shape = [len(ones) if k in (i, j) else 1 for k, ones in enumerate(values)]
            good &= np.array(pairs, dtype=bool).reshape(shape)
    backbone, neck, head = (FACTORS.index(name) for name in ('backbone', 'neck', 'head'))
    triples = [[[not _of_three(b, n, h) for h in values[head]] for n in values[neck]] for b in values[backbone]]
    shape = [len(ones) if k in (backbone, neck, head) else 1 for k, ones in enumerate(values)]
    good &= np.array(triples, dtype=bool).reshape(shape)
    alone: list[Value] = []
    for axis in sorted(range(len(values)), key=lambda axis: len(values[axis])):
        used = good.any(axis=tuple(k for k in range(len(values)) if k != axis))
        alone += [value for value, one in zip(values[axis], np.atleast_1d(used).tolist(), strict=True) if not one]
    if alone:
        _refuse(values, smallest_map, alone, nothing=not good.any())
    return np.argwhere(good)


def _refuse(values: list[list[Value]], smallest_map: int, alone: list[Value], nothing: bool) -> None:
    """Raises an error that names all values in no valid combination, and the reason for one of them.

    The reason is for the first value that is incompatible with all values of one other factor, searching factors with
    few values first; without such a value, an example is given.

    Args:
        values: All values, by factor.
        smallest_map: See :class:`StructuralSpace`.
        alone: Those in no valid combination.
        nothing: Whether there is no valid combination at all.
    """

    def others(named: Value) -> str:
        rest = [one.title for one in alone if one is not named]
        return f' Also in no valid combination: {", ".join(rest)}.' if rest and not nothing else ''

    for ones in sorted(values, key=len):
        for value, partners in itertools.product(ones, values):
            if partners is ones:
                continue
            ordered = [sorted((value, other), key=lambda one: FACTORS.index(one.factor)) for other in partners]
            reasons = [_of_two(first, second, smallest_map) for first, second in ordered]
            if all(reasons):
                raise DetNASError(
                    f'search.space.factors: {value.title} is compatible with no {partners[0].factor}: '
                    f'{"; ".join(reasons[:3])}. Change it, or remove it ({value.name}=None).{others(value)}'
                )
    example = alone[0]
    tried = {ones[0].factor: example if ones[0].factor == example.factor else ones[0] for ones in values}
    raise DetNASError(
        f'search.space.factors: {example.title} is in no valid combination. For example, '
        f'{"/".join(one.name for one in tried.values())}: {conflict(tried, smallest_map)}. Change it, or remove it '
        f'({example.name}=None).{others(example)}'
    )
