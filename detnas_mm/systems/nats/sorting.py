"""Moves channels so that those of one dilation lie together: a net that computes the same, and faster.

The rows of a dilated convolution move, with the norm behind it, and the columns of the convolution that reads them. In
grouped convolutions whole conv-groups move, with the rows of the convolution before and its norm. Where channels go
elsewhere as well, a layer is left in place.
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
from detnas_mm.spaces.images import RGB
from detnas_mm.systems.nats.channel_order import MARK, genotypes_of
from detnas_mm.systems.nats.convs import SearchedConv, by_unit, read_dilations, runs_text
from detnas_mm.systems.nats.layers import channels_of
from detnas_mm.systems.nats.model import dilated_backbone
from detnas_mm.systems.nats.plain import build_plain, searched_convs
from detnas_mm.systems.nats.readers import Graph, Neighbours
from detnas_mm.systems.nats.space import OWN_KEYS, plain_backbone

#: Side of the images on which the sorted net is held against the one before.
_SIDE = 128
#: Largest difference between the two, relative to the largest value of a map: float rounding.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Sorted:
    """A backbone whose channels of one dilation lie together.

    Attributes:
        genotypes: The text of its dilations.
        state_dict: Its weights.
        moved: Names of the convolutions whose channels moved.
        left: Why others stayed as they were, by name.
    """

    genotypes: str
    state_dict: OrderedDict[str, Tensor]
    moved: tuple[str, ...]
    left: dict[str, str]


def sort_channels(
    plain: Mapping[str, Any], genotypes: str, state_dict: Mapping[str, Tensor], stages: Sequence[str] | None = None
) -> Sorted:
    """Sorts the channels of a backbone; see the module. Dilations keep the order in which they come first.

    Args:
        plain: The plain backbone's config.
        genotypes: Text of its dilations.
        state_dict: Weights of the backbone, without prefix; other keys are kept.
        stages: Whose convolutions the dilations are. Defaults to all that are called layers, stages or blocks.

    Raises:
        DetNASError: If the text does not fit the backbone, or weights lack or have another shape.
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
    """Refuses weights that are not the net's."""
    unfit = [
        f'{key}: {tuple(state_dict[key].shape) if key in state_dict else "nothing"} in the checkpoint, '
        f'{tuple(value.shape)} needed'
        for key, value in net.state_dict().items()
        if (key in state_dict or not key.endswith('num_batches_tracked'))
        and (key not in state_dict or state_dict[key].shape != value.shape)
    ]
    if unfit:
        raise DetNASError(
            f'The checkpoint holds no weights of this {type(net).__name__}; {len(unfit)} differ, such as:\n'
            + listed(unfit[:5])
        )


def _move(
    weights: dict[str, Tensor], graph: Graph, conv: SearchedConv, order: Sequence[int], searched: set[str]
) -> str:
    """Moves the units of one convolution, with what goes with them; or returns why not.

    Args:
        weights: Weights by name, changed in place.
        graph: What is before and behind the convolution.
        conv: The convolution.
        order: Which unit is to stand at every position.
        searched: Names of all convolutions with dilations.
    """
    behind, before = graph.behind(conv.name), Neighbours()
    if conv.groups > 1:
        before = graph.before(conv.name)
        if before.other in searched:
            before.reason = f'the channels that it reads are those of {before.other}, which have dilations themselves'
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


def sort_model(cfg: Mapping[str, Any], weights: Mapping[str, Tensor], path: str) -> tuple[dict[str, Any], Sorted]:
    """Sorts the channels of a config's backbone in a checkpoint, and checks that it computes what it did.

    Args:
        cfg: A config whose ``model.backbone`` is a ``DilatedBackbone``.
        weights: Of the whole model, or of the backbone alone, on its own or behind ``backbone.``: pre-trained weights
            of the plain net.
        path: Where the sorted weights are going to be.

    Returns:
        The config of the sorted net, which begins with these weights if they are the backbone's alone, and has no
        ``load_from``: that file's channels lie as they did. And the weights with all keys of the checkpoint.

    Raises:
        DetNASError: If there is nothing to sort, the weights do not fit, or the outputs would be others.
    """
    model = dict(cfg.get('model') or {})
    own = dict(model.get('backbone') or {})
    if 'genotypes' not in own:
        raise DetNASError("model.backbone of the config must be a 'detnas_mm.DilatedBackbone', which has genotypes.")
    plain = plain_backbone(own, cfg.get('default_scope'))
    prefix = 'backbone.' if any(key.startswith('backbone.') for key in weights) else ''
    bare = {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}
    stages = own.get('stages')
    done = sort_channels(plain, own['genotypes'], bare, stages)
    if not done.moved:
        reasons = ''.join(f'\n  {name}: {reason}' for name, reason in done.left.items())
        raise DetNASError('There is nothing to sort: equal dilations lie together, or cannot be moved.' + reasons)
    _check_outputs(plain, stages, (own['genotypes'], bare), (done.genotypes, done.state_dict))
    sorted_own = {key: value for key, value in own.items() if key not in ('init_cfg', 'pretrained')}
    sorted_own |= dict(genotypes=done.genotypes, channel_order='sorted')
    whole = prefix and any(key.split('.')[0] in model for key in weights if not key.startswith(prefix))
    if not whole:
        init_cfg = dict(type='Pretrained', checkpoint=path)
        sorted_own['init_cfg'] = dict(init_cfg, prefix=prefix) if prefix else init_cfg
    everything = OrderedDict(
        (key, done.state_dict[key[len(prefix) :]] if key.startswith(prefix) else value)
        for key, value in weights.items()
    )
    rest = {key: value for key, value in cfg.items() if key != 'load_from'}
    return dict(rest, model=dict(model, backbone=sorted_own)), Sorted(done.genotypes, everything, done.moved, done.left)


@torch.no_grad()
def _check_outputs(plain: Mapping[str, Any], stages: Any, *nets: tuple[str, Mapping[str, Tensor]]) -> None:
    """Refuses two nets, (genotypes, weights), whose outputs differ by more than rounding."""
    settings = {key: value for key, value in plain.items() if key not in ('init_cfg', 'pretrained', *OWN_KEYS)}
    images = torch.randn(1, plain.get('in_channels') or RGB, _SIDE, _SIDE, generator=torch.Generator().manual_seed(0))
    maps = []
    for genotypes, weights in nets:
        net = dilated_backbone(plain['type'], genotypes, stages, **settings)
        net.load_state_dict(dict(weights), strict=False)
        net.eval()
        maps.append(net(images))
    worst = max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(*maps, strict=True))
    if not worst < _ROUNDING:
        raise DetNASError(f'The sorted net computes something else (by {worst:.2g}): {plain["type"]} cannot be sorted.')


def checkpoint_of(done: Sorted, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the checkpoint of a sorted net, which names its genotypes.

    Args:
        done: The net.
        meta: Of the checkpoint before; the classes of its data are kept.
    """
    kept = {key: meta[key] for key in ('dataset_meta',) if key in meta}
    return dict(meta={**kept, MARK: done.genotypes}, state_dict=done.state_dict)
