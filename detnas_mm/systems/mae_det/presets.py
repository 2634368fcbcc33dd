"""Presets of MAE-DET's space, and validation of user-defined spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detnas_mm.errors import DetNASError
from detnas_mm.systems.mae_det.structure import MAX_BLOCKS, MAX_DEPTH, MAX_KERNEL, MAX_WIDTH

#: ``authors``: the released space for ResNet-50's budget. Block 1 may be 8 times as wide as the stem, as in
#: ``maedet-init``, the initial structure of the authors' search. ``relaxed``: contains MAE-DET-S, -M and -L, which
#: violate the rules of ``authors``.
PRESETS: dict[str, dict[str, Any]] = {
    'authors': dict(
        strides=[2, 2, 2, 1, 2],
        stem_kernel=3,
        stem_stride=2,
        stem_widths=[8, 32],
        widths=[8, 2048],
        width_step=8,
        growth=[[1, 8], [1, 4], [1, 4], [1, 4], [1, 4]],
        kernels=[3, 5],
        depths=[[1, 3], [1, 7], [1, 7], [1, 7], [1, 7]],
        bottlenecks=[8, 2048],
        bottleneck_step=8,
        bottleneck_ratio=[0.1, 1],
    ),
    'relaxed': dict(
        strides=[2, 2, 2, 2],
        stem_kernel=3,
        stem_stride=2,
        stem_widths=[8, 128],
        widths=[8, 4096],
        width_step=8,
        growth=[1, 8],
        kernels=[3, 5],
        depths=[1, 16],
        bottlenecks=[4, 2048],
        bottleneck_step=4,
        bottleneck_ratio=[0.05, 1],
    ),
}


def checked(space: Any) -> dict[str, Any]:
    """Validates a space given as a mapping and fills in missing keys; ``in_channels`` is not included.

    Raises:
        ValueError: If a key is unknown or a value is invalid; names both.
    """
    if not isinstance(space, Mapping):
        raise DetNASError(f'A MAE-DET space is one of {sorted(PRESETS)} or a mapping; got {space!r}.')
    known = [*PRESETS['authors'], 'in_channels']
    unknown = sorted(set(space) - set(known))
    if unknown:
        raise DetNASError(f'MAE-DET space: unknown keys {unknown}. Keys: {", ".join(known)}.')
    spec: dict[str, Any] = {key: space.get(key, value) for key, value in PRESETS['authors'].items()}
    for key in ('strides', 'kernels'):
        spec[key] = _integers(key, spec[key])
    if not set(spec['strides']) <= {1, 2}:
        raise DetNASError(f"'strides' must be a list of 1 or 2, one per block; got {spec['strides']}.")
    for key in ('stem_kernel', 'stem_stride', 'width_step', 'bottleneck_step'):
        spec[key] = _integers(key, [spec[key]])[0]
    if spec['stem_stride'] > 2 or any(k % 2 == 0 for k in [*spec['kernels'], spec['stem_kernel']]):
        raise DetNASError(
            f"'stem_stride' must be 1 or 2, 'stem_kernel' and 'kernels' odd; got stem_stride {spec['stem_stride']}, "
            f'stem_kernel {spec["stem_kernel"]} and kernels {spec["kernels"]}.'
        )
    spec['kernels'] = sorted(set(spec['kernels']))
    for key in ('stem_widths', 'widths', 'bottlenecks', 'bottleneck_ratio'):
        spec[key] = _pair(key, spec[key], whole=key != 'bottleneck_ratio')
    blocks = len(spec['strides'])
    for key in ('growth', 'depths'):
        given = spec[key]
        if not isinstance(given, Sequence) or not given:
            raise DetNASError(f'{key!r} must be a pair [low, high], or one pair per block; got {given!r}.')
        pairs = given if isinstance(given[0], Sequence) else [given] * blocks
        if len(pairs) != blocks:
            raise DetNASError(
                f'{key!r} has {len(pairs)} pairs for {blocks} blocks; give one pair for all, or one per block.'
            )
        spec[key] = [_pair(key, pair, whole=key == 'depths') for pair in pairs]
    _check_readable(spec)
    return spec


def _check_readable(spec: Mapping[str, Any]) -> None:
    """Checks that every structure of the space can be read, exported and built."""
    largest = dict(
        kernels=(max(spec['kernels']), MAX_KERNEL),
        stem_kernel=(spec['stem_kernel'], MAX_KERNEL),
        depths=(max(most for _, most in spec['depths']), MAX_DEPTH),
        **{key: (spec[key][1], MAX_WIDTH) for key in ('stem_widths', 'widths', 'bottlenecks')},
    )
    for key, (own, most) in largest.items():
        if own > most:
            raise DetNASError(f'{key!r} allows {own}; structures support at most {most}. Lower it.')
    if len(spec['strides']) > MAX_BLOCKS:
        raise DetNASError(f"'strides' has {len(spec['strides'])} blocks; structures have at most {MAX_BLOCKS}.")


def _integers(key: str, values: Any) -> list[int]:
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise DetNASError(f'{key!r} must be a list of positive integers; got {values!r}.')
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 < value <= 1 << 20:
            raise DetNASError(f'{key!r} must be positive integers; got {value!r}.')
    return [int(value) for value in values]


def _pair(key: str, values: Any, whole: bool) -> list[Any]:
    """Validates a pair [low, high] of positive numbers."""
    if whole:
        values = _integers(key, values)
    if (not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 2
            or not all(type(v) in (int, float) and v > 0 for v in values)
            or not values[0] <= values[1] < float('inf')):  # fmt: skip
        raise DetNASError(f'{key!r} must be [low, high] with 0 < low <= high; got {values!r}.')
    return list(values)
