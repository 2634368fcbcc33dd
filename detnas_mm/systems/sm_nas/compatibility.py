"""Which values of factors go together: what they need by name, and what their maps allow."""

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
    """Returns why values of all factors do not go together; '' if they do."""
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
                f'{other.title} ends at stride {last}, where {one.title} has maps of fewer than {smallest_map} x '
                f'{smallest_map} (smallest_map)'
            )
    if (one.factor, other.factor) == ('backbone', 'neck'):
        return _of_maps(one, other)
    if (one.factor, other.factor) == ('rpn', 'head'):
        proposes, takes = 'rpn_head' in one.model, 'roi_head' in other.model
        if proposes != takes:
            return f'{other.title} takes {"" if takes else "no "}proposals, and {one.title} makes {_some(proposes)}'
    return ''


def _some(proposes: bool) -> str:
    return 'them' if proposes else 'none'


def _of_maps(backbone: Value, neck: Value) -> str:
    """Every stride of a neck up to the backbone's last must be there, and no stage that nobody reads."""
    first, last = neck.data['strides']
    found = [stride for _, _, stride in used_outputs(backbone, neck)]
    top = backbone.outputs[-1][2]
    wanted = [first]
    while 2 * wanted[-1] <= min(last, top):
        wanted.append(2 * wanted[-1])
    if found != wanted:
        return (
            f'{neck.title} takes maps of strides {", ".join(map(str, wanted))}, and {backbone.title} has those of '
            f'{", ".join(str(stride) for _, _, stride in backbone.outputs)}'
        )
    given = (neck.model.get('neck') or {}).get('in_channels')
    channels = [one[1] for one in used_outputs(backbone, neck)]
    if given is not None and list(given) != channels:
        return f'{neck.title} takes {list(given)} channels, and the maps of {backbone.title} have {channels}'
    if cut_for(backbone, neck) is None:
        return (
            f'{neck.title} ends at stride {last}, and {backbone.title} does not say how it is built up to there '
            f"(cuts={{'{last}': dict(…)}}): stages after it would be computed for nobody"
        )
    return ''


def _of_three(backbone: Value, neck: Value, head: Value) -> str:
    """A RoI head without a neck reads the backbone's map through a shared head, the stage that comes next."""
    if 'roi_head' not in head.model or 'neck' in neck.model:
        return ''
    if isinstance(head.model['roi_head'].get('bbox_head'), list):
        return f'{head.title} has several stages, which share no head, and on {neck.title} it would need a shared_head'
    if not backbone.data.get('shared_head'):
        return f'{head.title} on {neck.title} needs a shared_head, which {backbone.title} does not have'
    if all(stride <= neck.data['strides'][-1] for _, _, stride in backbone.outputs):
        return f'{head.title} on {neck.title} needs a shared_head, and {backbone.title} has no stage after that map'
    return ''


def valid_ids(table: Table, smallest_map: int) -> np.ndarray:
    """Returns all valid combinations as ids of values, shape (combinations, factors), in the order of the table.

    Raises:
        DetNASError: If a value goes with no combination of the others; names it and why.
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

    It is the first that has no partner in one other factor, else an example. Of two factors that do not fit together at
    all, a value of the one with fewer values is named.

    Args:
        values: All values, by factor.
        smallest_map: See :class:`StructuralSpace`.
        alone: Those in no valid combination.
        nothing: Whether there is no valid combination at all.
    """

    def others(named: Value) -> str:
        rest = [one.title for one in alone if one is not named]
        return f' Nor is any combination valid with {", ".join(rest)}.' if rest and not nothing else ''

    for ones in sorted(values, key=len):
        for value, partners in itertools.product(ones, values):
            if partners is ones:
                continue
            ordered = [sorted((value, other), key=lambda one: FACTORS.index(one.factor)) for other in partners]
            reasons = [_of_two(first, second, smallest_map) for first, second in ordered]
            if all(reasons):
                raise DetNASError(
                    f'search.space.factors: {value.title} goes with no {partners[0].factor}: {"; ".join(reasons[:3])}. '
                    f'Change it, or leave it out ({value.name}=None).{others(value)}'
                )
    example = alone[0]
    tried = {ones[0].factor: example if ones[0].factor == example.factor else ones[0] for ones in values}
    raise DetNASError(
        f'search.space.factors: {example.title} is in no valid combination; of '
        f'{"/".join(one.name for one in tried.values())}, for example, {conflict(tried, smallest_map)}. Change it, or '
        f'leave it out ({example.name}=None).{others(example)}'
    )
