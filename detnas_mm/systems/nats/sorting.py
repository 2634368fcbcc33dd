"""Sort the channels of a dilated net so that equal dilations are contiguous: same outputs, faster.

Sorting permutes the rows (output channels) of a dilated convolution, the norm after it, and the columns (input
channels) of the convolution that reads it. In grouped convolutions whole conv-groups move, together with the rows of
the convolution before and its norm. A layer whose channels are read by other layers too is left in place.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from detnas_mm.errors import DetNASError
from detnas_mm.models.build import without_memory
from detnas_mm.models.convert import listed
from detnas_mm.registry import MODELS
from detnas_mm.spaces.images import RGB
from detnas_mm.systems.nats.channel_order import MARK, dilations_metadata, genotypes_of
from detnas_mm.systems.nats.convs import SearchedConv, by_unit, read_dilations, runs_text
from detnas_mm.systems.nats.layers import channels_of
from detnas_mm.systems.nats.plain import build_plain, searched_convs
from detnas_mm.systems.nats.readers import Graph, Neighbours
from detnas_mm.systems.nats.space import OWN_KEYS, plain_backbone

#: Side, in pixels, of the image on which the nets before and after sorting are compared.
_SIDE = 128
#: Largest difference between their outputs, relative to the largest value of a map: float rounding.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Sorted:
    """A backbone with sorted channels.

    Attributes:
        genotypes: Text of its dilations.
        state_dict: Its weights.
        moved: Names of the convolutions that were sorted.
        left: Reasons why other convolutions were left in place, by name.
    """

    genotypes: str
    state_dict: OrderedDict[str, Tensor]
    moved: tuple[str, ...]
    left: dict[str, str]


def sort_channels(
    plain: Mapping[str, Any], genotypes: str, state_dict: Mapping[str, Tensor], stages: Sequence[str] | None = None
) -> Sorted:
    """Sorts the channels of a backbone. Dilations are ordered by their first occurrence.

    Args:
        plain: Config of the plain backbone.
        genotypes: Text of its dilations.
        state_dict: Weights of the backbone, without prefix; other keys are kept.
        stages: Names of the stages that ``genotypes`` describes. Defaults to all modules called layers, stages or
            blocks.

    Raises:
        DetNASError: If the genotypes do not fit the backbone, or a weight is missing or has another shape.
    """
    table = searched_convs(plain, stages)
    dilations = read_dilations(genotypes_of(genotypes), table)
    with without_memory():
        net = build_plain({key: value for key, value in plain.items() if key not in ('init_cfg', 'pretrained')})
    net.to('meta').eval()
    _check(net, state_dict)
    graph = Graph(net, torch.empty(1, plain.get('in_channels') or RGB, _SIDE, _SIDE, device='meta'))
    out, texts, moved, left = OrderedDict(state_dict), [], [], {}
    for conv, found in zip(table, dilations, strict=True):
        units = by_unit(found, conv)
        first = {genotype: number for number, genotype in reversed(list(enumerate(units)))}
        places = [first[unit] for unit in units]
        order = sorted(range(len(units)), key=places.__getitem__)
        if order != list(range(len(units))):
            reason = _move(out, graph, conv, order, {one.name for one in table})
            if reason:
                left[conv.name] = reason
            else:
                moved.append(conv.name)
                found = [found[row] for row in channels_of(torch.tensor(order), conv.unit).tolist()]
        texts.append(runs_text(found))
    return Sorted('|'.join(texts), out, tuple(moved), left)


def _check(net: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Checks that the weights are those of the net.

    Raises:
        DetNASError: If a weight is missing or has another shape.
    """
    unfit = [
        f'{key}: {tuple(state_dict[key].shape) if key in state_dict else "nothing"} in the checkpoint, '
        f'{tuple(value.shape)} needed'
        for key, value in net.state_dict().items()
        if (key in state_dict or not key.endswith('num_batches_tracked'))
        and (key not in state_dict or state_dict[key].shape != value.shape)
    ]
    if unfit:
        raise DetNASError(
            f'The checkpoint does not fit this {type(net).__name__}; tensors that differ ({len(unfit)}), such as:\n'
            + listed(unfit[:5])
        )


def _move(
    weights: dict[str, Tensor], graph: Graph, conv: SearchedConv, order: Sequence[int], searched: set[str]
) -> str:
    """Permutes the units of one convolution and the layers that share its channels.

    Args:
        weights: Weights by name, changed in place.
        graph: Graph of the backbone.
        conv: The convolution.
        order: Index of the unit that goes to each position.
        searched: Names of all convolutions with dilations.

    Returns:
        '' if they were permuted, else the reason why they cannot be.
    """
    behind, before = graph.behind(conv.name), Neighbours()
    if conv.groups > 1:
        before = graph.before(conv.name)
        if before.other in searched:
            before.reason = f'its input channels are the outputs of {before.other}, which has dilations too'
    if behind.reason or before.reason:
        return behind.reason or before.reason
    units = torch.tensor(order)
    rows = channels_of(units, conv.unit)
    _take_rows(weights, [conv.name, *behind.norms], rows)
    reader = f'{behind.other}.weight'
    weights[reader] = weights[reader].index_select(1, rows)
    if conv.groups > 1:
        module = graph.modules[conv.name]
        assert isinstance(module, nn.Conv2d)
        inputs = channels_of(units, module.in_channels // module.groups)
        _take_rows(weights, [before.other, *before.norms], inputs)
    return ''


def _take_rows(weights: dict[str, Tensor], layers: Sequence[str], rows: Tensor) -> None:
    """Permutes the output channels of layers, in place."""
    for layer in layers:
        for part in ('weight', 'bias', 'running_mean', 'running_var'):
            if f'{layer}.{part}' in weights:
                weights[f'{layer}.{part}'] = weights[f'{layer}.{part}'].index_select(0, rows)


def sort_model(
    cfg: Mapping[str, Any], weights: Mapping[str, Tensor], path: str | None = None
) -> tuple[dict[str, Any], Sorted]:
    """Sorts the channels of a config's backbone in a checkpoint, and checks that the outputs stay the same.

    Args:
        cfg: A config whose ``model.backbone`` is a ``DilatedBackbone``.
        weights: Weights of the whole model; or pre-trained weights of the plain backbone, with or without the prefix
            ``backbone.``.
        path: Path that sorted weights of the backbone alone will be written to. Defaults to None: the weights are of
            the whole model.

    Returns:
        (config of the sorted net, sorted weights with all keys of the checkpoint). If the weights are those of the
        backbone alone, the config starts from them. It has no ``load_from``, whose file has unsorted channels.

    Raises:
        DetNASError: If the config has no dilations, the weights do not fit, or the outputs would differ.
    """
    model = dict(cfg.get('model') or {})
    own = dict(model.get('backbone') or {})
    if 'genotypes' not in own:
        raise DetNASError(
            "model.backbone of the config must be dict(type='detnas_mm.DilatedBackbone', genotypes=…); got "
            f'type {own.get("type")!r} without genotypes.'
        )
    plain = plain_backbone(own, cfg.get('default_scope'))
    prefix = 'backbone.' if any(key.startswith('backbone.') for key in weights) else ''
    bare = {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}
    stages = own.get('stages')
    done = sort_channels(plain, own['genotypes'], bare, stages)
    _check_outputs(plain, stages, (own['genotypes'], bare), (done.genotypes, done.state_dict))
    sorted_own = {key: value for key, value in own.items() if key not in ('init_cfg', 'pretrained')}
    sorted_own |= dict(genotypes=done.genotypes, channel_order='sorted')
    whole = prefix and any(key.split('.')[0] in model for key in weights if not key.startswith(prefix))
    if path is not None and not whole:
        init_cfg = dict(type='Pretrained', checkpoint=path)
        sorted_own['init_cfg'] = dict(init_cfg, prefix=prefix) if prefix else init_cfg
    everything = OrderedDict(
        (key, done.state_dict[key[len(prefix) :]] if key.startswith(prefix) else value)
        for key, value in weights.items()
    )
    table = searched_convs(plain, stages)
    named = dilations_metadata(table, read_dilations(done.genotypes, table))
    theirs: Mapping[str, Any] = getattr(weights, '_metadata', {})  # torch's name for it; loading compares dilations
    own_metadata = {**theirs.get(prefix[:-1], {}), **named}
    everything._metadata = {**theirs, prefix[:-1]: own_metadata}  # type: ignore[attr-defined]
    rest = {key: value for key, value in cfg.items() if key != 'load_from'}
    return dict(rest, model=dict(model, backbone=sorted_own)), Sorted(done.genotypes, everything, done.moved, done.left)


@torch.no_grad()
def _check_outputs(plain: Mapping[str, Any], stages: Any, *nets: tuple[str, Mapping[str, Tensor]]) -> None:
    """Checks that two nets, given as (genotypes, weights), have equal outputs but for float rounding.

    Raises:
        DetNASError: If they differ.
    """
    settings = {key: value for key, value in plain.items() if key not in ('init_cfg', 'pretrained', *OWN_KEYS)}
    images = torch.randn(1, plain.get('in_channels') or RGB, _SIDE, _SIDE, generator=torch.Generator().manual_seed(0))
    maps = []
    for genotypes, weights in nets:
        dilated = dict(settings, type='detnas_mm.DilatedBackbone', plain=plain['type'], genotypes=genotypes)
        net = MODELS.build(dict(dilated, stages=stages, channel_order='arbitrary'))
        net.load_state_dict(dict(weights), strict=False)
        net.eval()
        maps.append(net(images))
    worst = max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(*maps, strict=True))
    if not worst < _ROUNDING:
        raise DetNASError(
            f'The outputs of the sorted net differ (by {worst:.2g} of the largest value, allowed {_ROUNDING:g}): '
            f'{plain["type"]} cannot be sorted.'
        )


def checkpoint_of(done: Sorted, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the checkpoint of a sorted net; ``meta`` names its genotypes.

    Args:
        done: The sorted net.
        meta: ``meta`` of the checkpoint before sorting; ``dataset_meta`` is kept.
    """
    kept = {key: meta[key] for key in ('dataset_meta',) if key in meta}
    return dict(meta={**kept, MARK: done.genotypes}, state_dict=done.state_dict)
