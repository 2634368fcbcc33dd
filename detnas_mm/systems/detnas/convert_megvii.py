"""Converts the authors' checkpoints (github.com/megvii-model/DetNAS) to this package's keys.

Their key layout: ``first_conv``, ``features.N`` (fixed nets) or ``features.N.K`` with the choice K (supernets), and
for classification ``last_conv`` and ``fc.fc``. Inside a block every layer's name contains stage, block letter and
operation, so the architecture follows from the keys and the space from the shapes. The command line is
``tools/model_converters/megvii_to_detnas_mm.py``.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from detnas_mm import zoo
from detnas_mm.errors import DetNASError
from detnas_mm.models.convert import check_keys, listed, load_checkpoint
from detnas_mm.spaces import Architecture
from detnas_mm.spaces.images import RGB
from detnas_mm.systems.detnas.model import DetNASNet, DetNASSupernet
from detnas_mm.systems.detnas.space import PRESETS, Block, DetNASSpace
from detnas_mm.systems.detnas.zoo import PublishedDetNASNet

#: The authors' names of the operations; the position is the id.
OP_NAMES = ('shufflenet_3x3', 'shufflenet_5x5', 'shufflenet_7x7', 'xception_3x3')

_STEM_KEY = 'first_conv.conv.weight'
_CLASSIFIER = 'fc.fc.'
_OWN = ('first_conv.', 'features.', 'last_conv.', _CLASSIFIER)
_BN_COUNTER = 'num_batches_tracked'
_UNIT_KEY = re.compile(
    r'features\.(?P<index>\d+)\.(?:(?P<choice>\d+)\.)?conv\.\d+\.interstellar(?P<stage>\d+)[a-z]_'
    rf'(?P<op>{"|".join(OP_NAMES)})_branch2a\.weight'
)

__all__ = ['Converted', 'convert', 'infer', 'load_checkpoint']


@dataclass(frozen=True)
class Converted:
    """A converted checkpoint.

    Attributes:
        meta: ``arch`` (None for a supernet), ``space``, ``channel_split``, ``name`` (published name, or None),
            ``backbone`` (config of the backbone that the weights belong to), ``prefix`` (of the backbone's keys),
            ``num_classes`` (None without classifier). Plain values only.
        state_dict: Tensors under this package's keys.
        dropped: Keys of the source that were not converted.
    """

    meta: dict[str, Any]
    state_dict: OrderedDict[str, Tensor]
    dropped: tuple[str, ...]


def convert(
    state_dict: Mapping[str, Tensor], backbone_only: bool = False, channel_split: str | None = None
) -> Converted:
    """Translates a state dict of the authors' code.

    A checkpoint with a classifier becomes the state dict of an mmpretrain classifier (``backbone.…`` and
    ``head.fc.…``); one without, or with ``backbone_only``, that of a backbone (``stem.…``, ``blocks.…``).

    Args:
        state_dict: The authors' state dict; prefixes such as ``module.`` and ``backbone.body.`` are detected.
        backbone_only: Drop classifier, neck and detection heads; without it a neck or detection head is an error.
        channel_split: How stride-1 blocks split their channels in training. Defaults to what the authors' code does:
            ``'shuffle'`` in supernets, ``'even_odd'`` in fixed nets (their option CHANNEL_SHUFFLE_METHOD 1 and 2).

    Raises:
        ValueError: If keys are missing or left over, or shapes differ; lists them.
    """
    own, prefix, others = _strip_prefix(state_dict)
    classifier = [key for key in own if key.startswith(_CLASSIFIER)]
    dropped = list(others)
    if backbone_only:
        dropped += [prefix + key for key in classifier]
        own = OrderedDict((key, value) for key, value in own.items() if key not in classifier)
        classifier = []
    elif others:
        raise DetNASError(
            f'Tensors that belong neither to the backbone nor to the classifier cannot be converted ({len(others):,}). '
            f'Use --backbone-only to drop them:\n' + listed(others)
        )
    space, arch = infer(own)
    with_last_conv = any(key.startswith('last_conv.') for key in own) or bool(classifier)
    if channel_split is None:
        channel_split = 'shuffle' if arch is None else 'even_odd'
    cfg: dict[str, Any] = dict(type='detnas_mm.DetNASSupernet' if arch is None else 'detnas_mm.DetNASNet')
    if arch is not None:
        cfg['arch'] = space.describe(arch)
    named = space.name if space.name != 'custom' and space.in_channels == RGB else space.spec()
    cfg |= dict(space=named, channel_split=channel_split, with_last_conv=with_last_conv)

    tensors = _translated(own, dict(_layers(space, arch, with_last_conv)), classifier, prefix)
    _check_shapes(tensors, cfg)
    if classifier:
        tensors = OrderedDict((k if k.startswith('head.') else f'backbone.{k}', v) for k, v in tensors.items())
    meta = dict(
        source='megvii-model/DetNAS',
        name=_published_name(space, arch, channel_split),
        arch=cfg.get('arch'),
        space=named,
        channel_split=channel_split,
        backbone=cfg,
        prefix='backbone.' if classifier else '',
        num_classes=len(tensors['head.fc.weight']) if classifier else None,
    )
    return Converted(meta, tensors, tuple(dropped))


def infer(own: Mapping[str, Tensor]) -> tuple[DetNASSpace, Architecture | None]:
    """Infers space and architecture (None: a supernet) from the authors' keys and shapes.

    Args:
        own: State dict without prefixes.

    Raises:
        ValueError: If there are no blocks, or they do not form a DetNAS space.
    """
    ops: dict[int, int] = {}
    stages: dict[int, int] = {}
    widths: dict[int, int] = {}
    supernet = False
    for key, value in own.items():
        found = _UNIT_KEY.fullmatch(key)
        if found:
            index = int(found['index'])
            supernet |= found['choice'] is not None
            ops[index] = OP_NAMES.index(found['op'])
            stages[index] = int(found['stage'])
            widths[index] = 2 * len(value)  # the first 1x1 convolution has half the block's output channels
    if not ops or _STEM_KEY not in own:
        raise DetNASError(
            'This is no checkpoint of the DetNAS authors: expected keys such as "first_conv.conv.weight" and '
            '"features.0.conv.0.interstellar1a_shufflenet_3x3_branch2a.weight"; found:\n' + listed(list(own)[:10])
        )
    order = sorted(ops)
    depths = Counter(stages[index] for index in order)
    if order != list(range(len(order))) or [stages[i] for i in order] != sorted(depths.elements()):
        raise DetNASError(
            f'Blocks must be numbered from 0 without gaps, in the order of their stages; found (block, stage) '
            f'{[(i, stages[i]) for i in order]}. Is the checkpoint complete?'
        )
    firsts = [next(i for i in order if stages[i] == stage) for stage in sorted(depths)]
    spec: dict[str, Any] = dict(
        stem=len(own[_STEM_KEY]),
        channels=[widths[i] for i in firsts],
        blocks=[depths[stage] for stage in sorted(depths)],
    )
    presets = [DetNASSpace(name).spec() for name in PRESETS]
    last = own.get('last_conv.conv.weight')
    if last is not None:
        spec['last'] = len(last)
    else:  # the file does not show it: use the preset's value if everything else equals the preset
        spec = next((preset for preset in presets if {**preset, **spec} == preset), spec)
    stem = own[_STEM_KEY]
    space = DetNASSpace(spec, stem.shape[1] if stem.ndim == 4 else RGB)
    return space, None if supernet else space.parse([ops[i] for i in order])


def _strip_prefix(state_dict: Mapping[str, Tensor]) -> tuple[OrderedDict[str, Tensor], str, list[str]]:
    """Returns (state dict of classifier or backbone without prefix, the prefix, keys of all other tensors)."""
    stems = [key for key in state_dict if key == _STEM_KEY or key.endswith('.' + _STEM_KEY)]
    if len(stems) > 1:
        raise DetNASError(
            f'The checkpoint contains {len(stems)} backbones: {stems}. Save one of them in a file of its own and '
            f'convert that.'
        )
    if not stems:
        return OrderedDict(state_dict), '', []
    prefix = stems[0][: -len(_STEM_KEY)]
    own: OrderedDict[str, Tensor] = OrderedDict()
    others = []
    for key, value in state_dict.items():
        if key.startswith(tuple(prefix + part for part in _OWN)):
            own[key[len(prefix) :]] = value
        else:
            others.append(key)
    return own, prefix, others


def _layers(space: DetNASSpace, arch: Architecture | None, with_last_conv: bool) -> Iterator[tuple[str, str]]:
    """Yields all pairs (layer in the authors' code, layer here) of convolutions and norms."""
    yield from (('first_conv.conv', 'stem.conv'), ('first_conv.bn', 'stem.bn'))
    for block in space.blocks:
        choices = range(space.num_choices) if arch is None else [arch.genes[block.index]]
        for choice in choices:
            inner = f'{choice}.' if arch is None else ''
            for theirs, ours in _unit_layers(space, block, choice):
                yield f'features.{block.index}.{inner}{theirs}', f'blocks.{block.index}.{inner}{ours}'
    if with_last_conv:
        yield from (('last_conv.conv', 'last_conv.conv'), ('last_conv.bn', 'last_conv.bn'))


def _unit_layers(space: DetNASSpace, block: Block, choice: int) -> Iterator[tuple[str, str]]:
    letter = chr(ord('a') + block.index - sum(space.depths[: block.stage]))
    place = f'{block.stage + 1}{letter}'
    name = f'{place}_{OP_NAMES[choice]}_branch2'
    if OP_NAMES[choice].startswith('xception'):
        for j, suffix in enumerate('abc'):
            yield from _pair(f'conv.{j}.', name + suffix, 'main', 2 * j)
    else:
        yield from ((f'conv.0.interstellar{name}a', 'main.0.conv'), (f'conv.0.bn{name}a', 'main.0.bn'))
        yield from _pair('conv.1.', f'{name}b', 'main', 1)
    if block.stride == 2:
        yield from _pair('proj_conv.', f'{place}_proj', 'proj', 0)


def _pair(where: str, name: str, branch: str, first: int) -> Iterator[tuple[str, str]]:
    """Yields the layers of a depthwise convolution with its norm and a pointwise one with its norm."""
    yield f'{where}interstellar{name}_s', f'{branch}.{first}.conv'
    yield f'{where}interstellar{name}_s_bn', f'{branch}.{first}.bn'
    yield f'{where}interstellar{name}', f'{branch}.{first + 1}.conv'
    yield f'{where}bn{name}', f'{branch}.{first + 1}.bn'


def _translated(
    own: Mapping[str, Tensor], layers: Mapping[str, str], classifier: Iterable[str], prefix: str
) -> OrderedDict[str, Tensor]:
    """Returns the tensors under this package's keys; raises if a key is missing or left over."""
    keys: dict[str, str] = {}
    for theirs, ours in layers.items():
        if ours.endswith('.bn'):
            parts = ['weight', 'bias', 'running_mean', 'running_var', _BN_COUNTER]
        else:
            parts = ['weight', 'bias'] if theirs in ('first_conv.conv', 'last_conv.conv') else ['weight']
        keys |= {f'{theirs}.{part}': f'{ours}.{part}' for part in parts}
    if classifier:
        keys |= {f'{_CLASSIFIER}{part}': f'head.fc.{part}' for part in ('weight', 'bias')}
    optional = {key for key in keys if key.endswith(_BN_COUNTER)}
    check_keys(own, keys, optional, prefix)
    tensors: OrderedDict[str, Tensor] = OrderedDict()
    for theirs, ours in keys.items():
        # Checkpoints written before torch 0.4.1 have no counter. Outputs do not depend on it.
        value = own[theirs] if theirs in own else torch.tensor(0, dtype=torch.long)
        tensors[ours] = value.detach().cpu().clone()
    return tensors


def _check_shapes(tensors: Mapping[str, Tensor], cfg: Mapping[str, Any]) -> None:
    options = {key: value for key, value in cfg.items() if key != 'type'}
    with torch.device('meta'):
        net: DetNASNet | DetNASSupernet = DetNASNet(**options) if 'arch' in cfg else DetNASSupernet(**options)
    expected = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    if 'head.fc.bias' in tensors:
        classes = len(tensors['head.fc.bias'])
        expected |= {'head.fc.weight': (classes, net.space.last_channels), 'head.fc.bias': (classes,)}
    unfit = [
        f'{key}: {tuple(tensors[key].shape)} in the checkpoint, {shape} in the net'
        for key, shape in expected.items()
        if tensors[key].shape != shape
    ]
    if unfit:
        raise DetNASError(f'Tensors whose shapes do not fit the net {cfg} ({len(unfit):,}):\n' + listed(unfit))


def _published_name(space: DetNASSpace, arch: Architecture | None, channel_split: str) -> str | None:
    for net in zoo.nets().values():
        own = isinstance(net, PublishedDetNASNet) and net.channel_split == channel_split
        if own and net.build_space().spec() == space.spec() and net.architecture() == arch:
            return net.name
    return None
