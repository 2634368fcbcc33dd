"""Converts checkpoints of MAE-DET's authors (github.com/alibaba/lightweight-neural-architecture-search).

Their key layout: ``block_list.0.{conv1,bn1}`` (stem), then for bottleneck j of super-block i
``block_list.{i}.block_list.{j}.{conv1,conv2,conv3,residual_proj}.{conv1,bn1}``, in detectors prefixed with
``backbone.body.``. The structure follows from the shapes, except for the strides. The command line is
``tools/model_converters/tinynas_to_detnas_mm.py``.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from detnas_mm import zoo
from detnas_mm.errors import DetNASError
from detnas_mm.models.convert import check_keys, listed
from detnas_mm.spaces import Architecture
from detnas_mm.spaces.images import RGB, unless_rgb
from detnas_mm.systems.mae_det.model import MAEDetNet
from detnas_mm.systems.mae_det.structure import read_structure, to_text, unpack

_STEM_KEY = 'block_list.0.conv1.weight'
_UNIT_KEY = re.compile(r'block_list\.(\d{1,3})\.block_list\.(\d{1,4})\.(conv[123])\.conv1\.weight')
_BN_COUNTER = 'num_batches_tracked'
_BN_PARTS = ('weight', 'bias', 'running_mean', 'running_var', _BN_COUNTER)


@dataclass(frozen=True)
class Converted:
    """A converted checkpoint.

    Attributes:
        meta: ``name`` (published name, or None), ``arch`` (text), ``backbone`` (config of the backbone that the weights
            belong to). Plain values only.
        state_dict: Tensors of the backbone under this package's keys.
        dropped: Keys of the source that were not converted.
    """

    meta: dict[str, Any]
    state_dict: OrderedDict[str, Tensor]
    dropped: tuple[str, ...]


def convert(
    state_dict: Mapping[str, Tensor], strides: Sequence[int] | None = None, backbone_only: bool = False
) -> Converted:
    """Translates a state dict of the authors' code to that of a backbone of this package.

    Args:
        state_dict: The authors' state dict; a prefix such as ``backbone.body.`` is detected.
        strides: Strides of the stem and of every super-block, which weights do not show. Required except for published
            nets, whose strides are known.
        backbone_only: Drop neck and heads; without it they are an error.

    Raises:
        ValueError: If keys are missing or left over, shapes differ, or strides are required; lists them.
    """
    prefix = _prefix(state_dict)
    inner = {key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)}
    own = {key: value for key, value in inner.items() if key.startswith('block_list.')}
    others = [key for key in state_dict if not key.startswith(f'{prefix}block_list.')]
    strange = [key for key in others if prefix and key.startswith(prefix)]
    if strange:
        raise DetNASError(
            f"Tensors of the backbone that do not exist in the authors' code ({len(strange):,}):\n" + listed(strange)
        )
    if others and not backbone_only:
        raise DetNASError(
            f'Tensors that do not belong to the backbone cannot be converted ({len(others):,}). Use --backbone-only to '
            f'drop them:\n' + listed(others)
        )
    arch = infer(own, strides)
    keys = dict(_keys(arch))
    check_keys(own, keys, {key for key in keys if key.endswith(_BN_COUNTER)}, prefix)
    tensors: OrderedDict[str, Tensor] = OrderedDict()
    for theirs, ours in keys.items():
        # Checkpoints written before torch 0.4.1 have no counter. Outputs do not depend on it.
        value = own[theirs] if theirs in own else torch.tensor(0, dtype=torch.long)
        tensors[ours] = value.detach().cpu().clone()
    in_channels = own[_STEM_KEY].shape[1]
    cfg: dict[str, Any] = dict(type='detnas_mm.MAEDetNet', arch=to_text(arch), **unless_rgb(in_channels))
    _check_shapes(tensors, arch, in_channels)
    name = _published_name(arch, in_channels)
    cfg['arch'] = name or to_text(arch)
    meta = dict(
        source='alibaba/lightweight-neural-architecture-search', name=name, arch=to_text(arch), backbone=cfg, prefix=''
    )  # fmt: skip
    return Converted(meta, tensors, tuple(others))


def _prefix(state_dict: Mapping[str, Tensor]) -> str:
    stems = [key for key in state_dict if key == _STEM_KEY or key.endswith('.' + _STEM_KEY)]
    stems = [key for key in stems if not _UNIT_KEY.search(key)]
    if len(stems) != 1:
        found = stems or list(state_dict)[:10]
        raise DetNASError(
            f"Expected one backbone of the authors' code, with a key such as backbone.body.{_STEM_KEY}; found "
            f'{len(stems)}:\n' + listed(found)
        )
    return stems[0][: -len(_STEM_KEY)]


def infer(own: Mapping[str, Tensor], strides: Sequence[int] | None = None) -> Architecture:
    """Infers the structure from keys and shapes.

    Args:
        own: State dict without prefix.
        strides: See :func:`convert`.

    Raises:
        ValueError: If the keys do not form a structure, or strides are missing or do not match it.
    """
    shapes: dict[int, dict[int, dict[str, tuple[int, ...]]]] = {}
    for key, value in own.items():
        found = _UNIT_KEY.fullmatch(key)
        if found:
            unit = shapes.setdefault(int(found[1]), {}).setdefault(int(found[2]), {})
            unit[found[3]] = tuple(value.shape)
    numbers = sorted(shapes)
    whole = all(
        sorted(units) == list(range(len(units)))
        and all(len(unit) == 3 and all(len(shape) == 4 for shape in unit.values()) for unit in units.values())
        for units in shapes.values()
    )
    stem = own.get(_STEM_KEY)
    if not numbers or numbers != list(range(1, len(numbers) + 1)) or not whole or stem is None or stem.ndim != 4:
        raise DetNASError(
            f'Super-blocks must be numbered from 1 and bottlenecks from 0 without gaps, each with conv1, conv2 and '
            f'conv3; found (super-block, bottlenecks) {[(i, sorted(shapes[i])) for i in numbers]}.'
        )
    given = [2] * (1 + len(numbers)) if strides is None else list(strides)
    if len(given) != 1 + len(numbers):
        raise DetNASError(
            f'strides {given} has {len(given)} entries; the stem and {len(numbers)} super-blocks need one each.'
        )
    genes = [stem.shape[0], stem.shape[2], given[0]]
    for number in numbers:
        first = shapes[number][0]
        btn, kernel = first['conv2'][0], first['conv2'][2]
        genes += [first['conv3'][0], kernel, given[number], len(shapes[number]), btn]
    arch = read_structure(genes)
    if strides is None and _published_name(arch, stem.shape[1]) is None:
        raise DetNASError(
            f'{to_text(arch)} is no published net, and weights do not show the strides: use --strides with one for the '
            f'stem and one for each of the {len(numbers)} super-blocks, such as --strides '
            f'{" ".join(["2"] * (1 + len(numbers)))}.'
        )
    return arch


def _published_name(arch: Architecture, in_channels: int) -> str | None:
    names = [net.name for net in zoo.nets().values() if net.arch == to_text(arch)]
    return names[0] if names and in_channels == RGB else None


def _keys(arch: Architecture) -> Iterator[tuple[str, str]]:
    """Yields all pairs (key in the authors' code, key here)."""
    yield from _layer('block_list.0', 'stem')
    for number, block in enumerate(unpack(arch)[1]):
        for j in range(block.depth):
            theirs, ours = f'block_list.{number + 1}.block_list.{j}', f'blocks.{number}.{j}'
            for name in ('conv1', 'conv2', 'conv3'):
                yield from _layer(f'{theirs}.{name}', f'{ours}.{name}')
            if j == 0:
                yield from _layer(f'{theirs}.residual_proj', f'{ours}.shortcut')


def _layer(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    yield f'{theirs}.conv1.weight', f'{ours}.conv.weight'
    for part in _BN_PARTS:
        yield f'{theirs}.bn1.{part}', f'{ours}.bn.{part}'


def _check_shapes(tensors: Mapping[str, Tensor], arch: Architecture, in_channels: int) -> None:
    with torch.device('meta'):
        net = MAEDetNet(arch, in_channels=in_channels)
    unfit = [
        f'{key}: {tuple(tensors[key].shape)} in the checkpoint, {tuple(value.shape)} in the net'
        for key, value in net.state_dict().items()
        if tensors[key].shape != value.shape
    ]
    if unfit:
        raise DetNASError(f'Tensors whose shapes do not fit {to_text(arch)} ({len(unfit):,}):\n' + listed(unfit))
