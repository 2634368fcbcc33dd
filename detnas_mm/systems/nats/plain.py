"""Build plain backbones and list the convolutions whose dilation can be changed."""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from detnas_mm.errors import DetNASError
from detnas_mm.models.build import without_memory
from detnas_mm.registry import MODELS, building
from detnas_mm.spaces.images import RGB
from detnas_mm.systems.nats.convs import SearchedConv
from detnas_mm.systems.nats.fusing import refusal_of_branch

#: The stage in the name of a module: layer2, stages.1, stage3, blocks.4, …
_STAGE = re.compile(r'(?:layer|stage|block)s?[._]?\d+')
#: Side, in pixels, of the image that the strides of maps are derived from.
_SIDE = 256


@MODELS.register_module()
def searched_convs(backbone: Mapping[str, Any], stages: Sequence[str] | None = None) -> list[SearchedConv]:
    """Returns the table of the 3×3 convolutions of a plain backbone, in the order of its modules.

    The backbone is built on the meta device, which allocates no memory.

    Args:
        backbone: Config of the backbone. A type without a scope is looked up in the current scope, else in mmdet's.
        stages: Names of the stages: prefixes of the names of modules. Defaults to all modules called layers, stages or
            blocks.

    Raises:
        DetNASError: If there is no such convolution, or one whose dilation cannot be changed; names it.
    """
    if isinstance(stages, str):
        raise DetNASError(f"stages must be a list of names, such as ['layer2', 'layer3']; got {stages!r}.")
    settings = {key: value for key, value in backbone.items() if key not in ('init_cfg', 'pretrained')}
    text = json.dumps([_scope_of(settings), settings], sort_keys=True, default=repr)
    return list(_table(_Settings(text, settings), None if stages is None else tuple(stages)))


@dataclass(frozen=True)
class _Settings:
    """Settings of a backbone as a cache key. Keeps the values, since a ``type`` that is a class has no text form."""

    text: str
    values: Mapping[str, Any] = field(compare=False)


@functools.lru_cache(maxsize=64)
def _table(key: _Settings, stages: tuple[str, ...] | None) -> tuple[SearchedConv, ...]:
    settings = key.values
    with without_memory():
        net = build_plain(settings)
    found = _find_convs(net, stages)
    sides: dict[str, int] = {}

    def note(conv: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sides[names[conv]] = inputs[0].shape[2]

    names: dict[nn.Module, str] = {conv: name for name, conv in found.items()}
    for conv in found.values():
        conv.register_forward_pre_hook(note)
    with torch.device('meta'), torch.no_grad():
        net.to('meta').eval()
        with building(f'the plain backbone, run on an image of {_SIDE}x{_SIDE}'):
            net(torch.empty(1, settings.get('in_channels') or RGB, _SIDE, _SIDE))
    return tuple(
        SearchedConv(
            name, conv.out_channels, conv.groups, _stage_of(name, stages) or '', _SIDE // sides[name], conv.dilation[0]
        )
        for name, conv in found.items()
        if name in sides  # convolutions that never run are not searched
    )


def build_plain(settings: Mapping[str, Any]) -> nn.Module:
    """Builds a plain backbone from its settings."""
    with building('the plain backbone'), DefaultScope.overwrite_default_scope(_scope_of(settings)):
        net = MODELS.build(copy.deepcopy(dict(settings)))
    if not isinstance(net, nn.Module):
        raise DetNASError(f'{settings["type"]!r} must be a backbone (nn.Module); building it gave {net!r:.100}.')
    return net


def _scope_of(settings: Mapping[str, Any]) -> str | None:
    """Returns the scope in which a type without a scope is looked up; None for a type with a scope or a class."""
    if not isinstance(settings.get('type'), str) or '.' in settings['type']:
        return None
    current = DefaultScope.get_current_instance()
    return 'mmdet' if current is None or current.scope_name == 'mmengine' else current.scope_name


def _stage_of(name: str, stages: Sequence[str] | None) -> str | None:
    if stages is not None:
        return next((stage for stage in stages if name.startswith(f'{stage}.')), None)
    match = _STAGE.match(name)
    return match.group() if match and name[match.end() :].startswith('.') else None


def _find_convs(net: nn.Module, stages: Sequence[str] | None) -> dict[str, nn.Conv2d]:
    """Returns the 3×3 convolutions in the stages of a net, by name.

    Raises:
        DetNASError: See :func:`searched_convs`.
    """
    found: dict[str, nn.Conv2d] = {}
    for name, module in net.named_modules():
        stage = _stage_of(name, stages)
        weight = getattr(module, 'weight', None)
        if stage is None or not isinstance(weight, Tensor) or weight.ndim != 4 or tuple(weight.shape[2:]) != (3, 3):
            continue
        refusal = _refusal(module)
        if refusal:
            raise DetNASError(
                f'{name} {refusal}. Only plain 3×3 convolutions (nn.Conv2d, padding_mode zeros, padding equal to '
                f'dilation) can have other dilations: search stages without it, stages=[…], or use another backbone.'
            )
        refusal = refusal_of_branch(net, name)
        if refusal:
            raise DetNASError(f'{name} {refusal}, or search stages without it, stages=[…].')
        found[name] = cast(nn.Conv2d, module)
    lacking = [stage for stage in stages or () if not any(name.startswith(f'{stage}.') for name in found)]
    if lacking or not found:
        there = sorted({name.split('.')[0] for name, _ in net.named_parameters()})
        where = ', '.join(lacking) or 'modules called layers, stages or blocks'
        raise DetNASError(
            f'{type(net).__name__} has no 3×3 convolution in {where}. Set stages=[…] to modules that have one, among: '
            f'{", ".join(there)}.'
        )
    return found


def _refusal(module: nn.Module) -> str:
    """Returns why a module with a 3×3 weight cannot have other dilations; or ''."""
    if type(module) is not nn.Conv2d:
        kind = type(module)
        return f'is a {kind.__name__}' + (f' of {kind.__module__}' if kind.__name__ == 'Conv2d' else '')
    if module.padding_mode != 'zeros':
        return f'pads by {module.padding_mode!r}'
    if module.padding != module.dilation:
        return f'has padding {module.padding} and dilation {module.dilation}'
    return ''
