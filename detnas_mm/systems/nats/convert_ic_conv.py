"""Convert checkpoints of IC-Conv's authors to the keys of the plain backbone.

Their keys are those of torchvision's ResNet, except that the middle convolution of a bottleneck is a list of
convolutions, ``layerL.B.conv2.conv_list.I.weight``: one per dilation, in the order of the pattern, with concatenated
outputs. The norms and the next convolution are therefore in that order already, and converting means concatenating the
weights. The weights do not contain the dilations: the pattern is given, or it is the published one with the same
numbers of channels. The command line is ``tools/model_converters/convert_ic_conv.py``.
"""

from __future__ import annotations

import itertools
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from detnas_mm import zoo
from detnas_mm.errors import DetNASError
from detnas_mm.models.convert import check_keys, listed
from detnas_mm.systems.nats.channel_order import MARK, genotypes_of
from detnas_mm.systems.nats.convs import read_dilations
from detnas_mm.systems.nats.model import dilated_backbone
from detnas_mm.systems.nats.plain import searched_convs
from detnas_mm.systems.nats.zoo import PublishedDilations

_LIST_KEY = re.compile(r'(?P<prefix>(?:.*\.)?)(?P<conv>layer(\d+)\.(\d+)\.conv2)\.conv_list\.(?P<index>\d+)\.weight')
_CLASSIFIER = ('fc.weight', 'fc.bias')
_BN_COUNTER = 'num_batches_tracked'
_DEPTHS = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}


@dataclass(frozen=True)
class Converted:
    """A converted checkpoint.

    Attributes:
        meta: ``name`` (published name, or None), ``genotypes`` (text, in the channel order of these weights),
            ``backbone`` (its config), ``prefix`` (of the backbone's keys), ``num_classes`` (None without a classifier).
            Plain values only.
        state_dict: Tensors by the keys of the plain backbone; with a classifier by the keys of mmpretrain,
            ``backbone.…`` and ``head.fc.…``.
        dropped: Keys of the source that were left out.
    """

    meta: dict[str, Any]
    state_dict: OrderedDict[str, Tensor]
    dropped: tuple[str, ...]


def convert(state_dict: Mapping[str, Tensor], genotypes: str | None = None, backbone_only: bool = False) -> Converted:
    """Converts a state dict of the authors' code.

    Args:
        state_dict: The authors' state dict; prefixes such as ``module.`` and ``backbone.`` are detected.
        genotypes: The pattern, as a text or a published name. Defaults to the published pattern with the same numbers
            of channels.
        backbone_only: Leave out the classifier, the neck and the detection heads. Without it a neck or heads are an
            error.

    Raises:
        DetNASError: If keys are missing or left over, or shapes or numbers of channels differ; lists them.
    """
    own, prefix, others = _own_part(state_dict)
    if others and not backbone_only:
        raise DetNASError(
            f'These tensors ({len(others)}) are not part of the backbone and cannot be converted. Leave them out with '
            f'--backbone-only:\n' + listed(others)
        )
    counts = _counts(own, prefix)
    plain = _plain_config(own, counts, prefix)
    text, name = _pattern(counts, plain, genotypes)
    settings = {key: value for key, value in plain.items() if key != 'type'}
    with torch.device('meta'):
        net = dilated_backbone(plain['type'], text, **settings)
    expected = net.state_dict()
    parts = {f'{conv}.weight': [f'{conv}.conv_list.{i}.weight' for i in range(len(n))] for conv, n in counts.items()}
    sources = {key: parts.get(key, [key]) for key in expected}
    classifier = [key for key in own if key.startswith('fc.')]
    needed = [key for keys in sources.values() for key in keys] + list(_CLASSIFIER if classifier else ())
    check_keys(own, needed, {key for key in needed if key.endswith(_BN_COUNTER)}, prefix)
    tensors = _put_together(own, sources)
    shapes = {key: tuple(value.shape) for key, value in expected.items()}
    outside = 'backbone.' if classifier and not backbone_only else ''
    if outside:
        shapes |= {'fc.weight': (len(own['fc.bias']), own['layer4.0.conv3.weight'].shape[0])}
        tensors |= {key: own[key].detach().cpu().clone() for key in _CLASSIFIER}
    unfit = [
        f'{prefix}{key}: {tuple(tensors[key].shape)} in the checkpoint, {shape} needed'
        for key, shape in shapes.items()
        if tuple(tensors[key].shape) != shape
    ]
    if unfit:
        raise DetNASError(f'These tensors ({len(unfit)}) have another shape than in {plain}:\n' + listed(unfit))
    named = OrderedDict((f'head.{key}' if key in _CLASSIFIER else outside + key, tensors[key]) for key in tensors)
    named._metadata = {outside[:-1]: net.state_dict()._metadata['']}  # type: ignore[attr-defined]
    meta = {
        'source': "IC-Conv, authors' code", 'name': name, MARK: text, 'prefix': outside,
        'backbone': {**plain, 'type': 'detnas_mm.DilatedBackbone', 'plain': plain['type'], 'genotypes': name or text},
        'num_classes': len(own['fc.bias']) if outside else None,
    }  # fmt: skip
    return Converted(meta, named, tuple(others + [prefix + key for key in (() if outside else classifier)]))


def _own_part(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str, list[str]]:
    """Returns (backbone and classifier by keys without prefix, that prefix, all other keys)."""
    matches = [match for match in map(_LIST_KEY.fullmatch, state_dict) if match]
    prefixes = sorted({match['prefix'] for match in matches})
    if len(prefixes) != 1:
        found = ', '.join(map(repr, prefixes)) or 'such as ' + ', '.join(list(state_dict)[:3])
        raise DetNASError(
            f"The checkpoint must hold one backbone of the authors' code, with keys such as "
            f'layer1.0.conv2.conv_list.0.weight under one prefix; found {len(prefixes)}: {found}.'
        )
    prefix = prefixes[0]
    own = {key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)}
    return own, prefix, [key for key in state_dict if not key.startswith(prefix)]


def _counts(own: Mapping[str, Tensor], prefix: str) -> dict[str, tuple[int, ...]]:
    """Returns, for every list of convolutions, their numbers of channels, by name and in the order of the layers."""
    lists: dict[str, dict[int, int]] = {}
    for key, value in own.items():
        match = _LIST_KEY.fullmatch(key)
        if match:
            if value.ndim != 4 or tuple(value.shape[2:]) != (3, 3):
                raise DetNASError(
                    f'{prefix}{key} must be a 3×3 convolution, shape (c_out, c_in, 3, 3); got {tuple(value.shape)}.'
                )
            lists.setdefault(match['conv'], {})[int(match['index'])] = len(value)
    for conv, found in lists.items():
        if sorted(found) != list(range(len(found))):
            raise DetNASError(f'{prefix}{conv}.conv_list must be numbered from 0 without a gap; got {sorted(found)}.')
    order = sorted(lists, key=lambda conv: [int(number) for number in re.findall(r'\d+', conv)])
    return {conv: tuple(lists[conv][i] for i in range(len(lists[conv]))) for conv in order}


def _plain_config(own: Mapping[str, Tensor], counts: Mapping[str, Sequence[int]], prefix: str) -> dict[str, Any]:
    """Returns the config of the plain backbone, derived from keys and shapes."""
    stages = [int(conv[len('layer') :].partition('.')[0]) for conv in counts]
    blocks = tuple(stages.count(stage) for stage in (1, 2, 3, 4))
    if blocks not in _DEPTHS or len(stages) != sum(blocks):
        raise DetNASError(f'A ResNet has {" or ".join(map(str, _DEPTHS))} blocks in layer1 to layer4; got {blocks}.')
    needed = ('conv1.weight', 'layer1.0.conv1.weight', 'layer4.0.conv3.weight')
    lacking = [prefix + key for key in needed if key not in own or own[key].ndim != 4]
    if lacking:
        raise DetNASError(
            f'The checkpoint must hold the convolutions {", ".join(needed)}; missing: {", ".join(lacking)}.'
        )
    width, base = len(own['layer1.0.conv1.weight']), len(own['conv1.weight'])
    groups, rest = divmod(width, own['layer1.0.conv2.conv_list.0.weight'].shape[1])
    if rest or not groups:
        raise DetNASError(
            f'{prefix}layer1.0.conv2.conv_list.0.weight has {own["layer1.0.conv2.conv_list.0.weight"].shape[1]} '
            f'input channels per conv-group, which must divide the {width} channels of layer1.0.conv1.'
        )
    plain: dict[str, Any] = dict(type='mmdet.ResNet', style='pytorch', depth=_DEPTHS[blocks])
    if groups > 1:
        plain |= dict(type='mmdet.ResNeXt', groups=groups, base_width=width // groups)
    if base != 64:
        plain['base_channels'] = base
    return plain


def _pattern(
    counts: Mapping[str, tuple[int, ...]], plain: Mapping[str, Any], genotypes: str | None
) -> tuple[str, str | None]:
    """Returns (text, published name or None) of the pattern with these numbers of channels."""
    published = [net for net in zoo.nets().values() if isinstance(net, PublishedDilations)]
    if genotypes is not None:
        text = genotypes_of(genotypes)
        found = _runs(text, plain)
        for conv, own in counts.items():
            if found[conv] != own:
                raise DetNASError(
                    f'{conv}.conv_list has {", ".join(map(str, own))} channels in the checkpoint, and '
                    f'{", ".join(map(str, found[conv]))} in the pattern. Give the pattern that the weights were '
                    f'trained with.'
                )
        names = [net.name for net in published if net.arch == text]
        return text, genotypes if genotypes in names else names[0] if names else None
    fitting = [net for net in published if net.backbone == plain]
    alike = {net.name: sum(_runs(net.arch, plain)[conv] == own for conv, own in counts.items()) for net in fitting}
    best = max(fitting, key=lambda net: alike[net.name], default=None)
    if best is None or alike[best.name] < len(counts):
        nearest = ''
        if best is not None:
            conv = next(conv for conv, own in counts.items() if _runs(best.arch, plain)[conv] != own)
            nearest = f'; the nearest one, {best.name}, differs in {conv}.conv_list'
        raise DetNASError(
            f'No published pattern has these numbers of channels per dilation{nearest}. Give the pattern with '
            f"--genotypes '42:1x1+5:1x2+…|…'."
        )
    return best.arch, best.name


def _runs(text: str, plain: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Returns the run lengths of a pattern, by name of the convolution."""
    table = searched_convs(plain)
    return {
        conv.name: tuple(len(list(run)) for _, run in itertools.groupby(dilations))
        for conv, dilations in zip(table, read_dilations(text, table), strict=True)
    }


def _put_together(own: Mapping[str, Tensor], sources: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
    """Returns tensors by the keys of the plain backbone; lists are concatenated along the output channels."""
    tensors = {}
    for key, keys in sources.items():
        if keys[0] not in own:  # a counter that checkpoints of torch before 0.4.1 lack; outputs do not depend on it
            tensors[key] = torch.tensor(0, dtype=torch.long)
            continue
        inputs = {tuple(own[one].shape[1:]) for one in keys}
        if len(inputs) > 1:
            raise DetNASError(
                f'The convolutions {keys[0]} … {keys[-1]} must have inputs of one shape; got {sorted(inputs)}.'
            )
        parts = [own[one].detach().cpu() for one in keys]
        tensors[key] = torch.cat(parts) if len(parts) > 1 else parts[0].clone()
    return tensors
