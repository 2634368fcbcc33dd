"""What a modular search starts from: detectors of ordinary configs, taken apart into what stays and what is searched.

A detector's model and pipelines stay; the code, base and kind of its backbone's blocks and the channels of its neck are
the seed. Detectors that differ in code, base and neck channels alone are one combination of modules, as the first stage
of SM-NAS finds them (Yao et al., AAAI 2020, section 3.1), with several seeds.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnas_mm.checks import keyed, listed
from detnas_mm.cli import read_source
from detnas_mm.config_types import nodes, type_name
from detnas_mm.errors import DetNASError, MissingFileError
from detnas_mm.spaces.images import RGB
from detnas_mm.systems.sm_nas.codes import RESNET18, RESNET50, BlockCode
from detnas_mm.systems.sm_nas.modules import STAGES
from detnas_mm.systems.sm_nas.recipe import frozen_settings

#: Codes of ResNets and ResNeXts by their depth, with the kind of a ResNet's blocks.
_RESNETS = {
    18: ('basic', RESNET18),
    34: ('basic', RESNET50),
    50: ('bottleneck', RESNET50),
    101: ('bottleneck', f'111-2111-2{"1" * 22}-211'),
    152: ('bottleneck', f'111-21111111-2{"1" * 35}-211'),
}
#: Settings of a ResNet that a code cannot say, with the values that change nothing.
_UNSAID: dict[str, tuple[Any, ...]] = dict(
    strides=((1, 2, 2, 2), (1, 2, 2), (1, 2)), dilations=((1, 1, 1, 1), (1, 1, 1), (1, 1)),
    dcn=(None,), plugins=(None,),
    deep_stem=(False,), avg_down=(False,),
)  # fmt: skip
#: Settings of the seed's backbone that the searched one takes over.
KEPT = ('out_indices', 'norm_cfg', 'conv_cfg', 'with_cp', 'zero_init_residual')
#: Loaders whose pipelines belong to a detector.
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
#: Stands for the channels of the neck in a combination's model.
_NECK = 0


class LeftOut(Exception):
    """A detector that is no seed; the message says why."""


@dataclass(frozen=True)
class Seed:
    """A detector, taken apart.

    Attributes:
        source: What messages call it.
        block: Kind of its blocks, see :data:`~detnas_mm.systems.sm_nas.codes.EXPANSION`.
        base: Its base channels.
        code: Its code.
        neck: Output channels of its neck.
        model: The rest of its model; places of the neck's channels hold 0, those of the backbone's None.
        pipelines: Its pipelines by the name of the loader.
        imports: Modules that its config imports.
        scope: Its ``default_scope``.
        frozen: Settings by which its own training keeps parts as they are, such as ``'backbone.norm_eval=True'``.
    """

    source: str
    block: str
    base: int
    code: str
    neck: int
    model: dict[str, Any]
    pipelines: dict[str, list[Any]]
    imports: tuple[str, ...] = ()
    scope: str = 'mmdet'
    frozen: tuple[str, ...] = ()

    @property
    def stages(self) -> int:
        """How many stages its backbone has."""
        return len(BlockCode.parse(self.code).stages)

    @classmethod
    def of(cls, source: str, cfg: Mapping[str, Any]) -> Seed:
        """Takes the detector of a config apart.

        Args:
            source: What messages call it.
            cfg: As nested dicts, classes as text; left as it is.

        Raises:
            LeftOut: If its backbone has no code, or it has no neck or no pipelines.
        """
        model = copy.deepcopy(dict(cfg.get('model') or {}))
        backbone = model.get('backbone') or {}
        block, base, code = _code_of(backbone)
        frozen = tuple(frozen_settings(model))
        neck = _neck_channels(model)
        model['backbone'] = {name: backbone[name] for name in KEPT if name in backbone}
        necks = model['neck']
        first = necks[0] if isinstance(necks, (list, tuple)) else necks
        if isinstance(first.get('in_channels'), (list, tuple)):
            first['in_channels'] = [None] * len(first['in_channels'])  # those of the backbone, which is searched
        imports = (cfg.get('custom_imports') or {}).get('imports') or ()
        return cls(
            source, block, base, code, neck, replace_channels(model, neck, _NECK), _pipelines(cfg),
            (imports,) if isinstance(imports, str) else tuple(imports), cfg.get('default_scope') or 'mmdet', frozen,
        )  # fmt: skip

    def with_neck(self, channels: int) -> dict[str, Any]:
        """The rest of the model, with so many channels of the neck and of what follows it."""
        return replace_channels(self.model, _NECK, channels)


def _code_of(backbone: Mapping[str, Any]) -> tuple[str, int, str]:
    """Kind of blocks, base channels and code of a backbone.

    Raises:
        LeftOut: If it has none.
    """
    kind = type_name(backbone.get('type'))
    if backbone.get('in_channels', RGB) != RGB:
        raise LeftOut(f'it takes images of {backbone["in_channels"]} channels')
    if kind == 'SMNASBackbone':
        own = str(BlockCode.parse(backbone.get('code', '')))
        return backbone.get('block', 'basic'), backbone.get('base', 64), own
    depth = backbone.get('depth')
    if kind not in ('ResNet', 'ResNeXt') or depth not in _RESNETS:
        raise LeftOut(f'its backbone {kind}{"" if depth is None else f" of depth {depth}"} has no code')
    for name, usual in _UNSAID.items():
        given = backbone.get(name, usual[0])
        if (tuple(given) if isinstance(given, (list, tuple)) else given) not in usual:
            raise LeftOut(f'no code says {name}={given!r} of its backbone')
    base = backbone.get('base_channels', 64)
    if kind == 'ResNeXt':
        grouped, usual = (backbone.get('groups', 1), backbone.get('base_width', 4)), (base // 2, 4)
        if grouped != usual:
            raise LeftOut(
                f'its ResNeXt has groups and base_width of {grouped}, where blocks of {base} base channels have {usual}'
            )
    block, code = _RESNETS[depth]
    style = backbone.get('style', 'pytorch')
    if block != 'basic' and style != 'pytorch':
        raise LeftOut(
            f'its backbone has style={style!r}, strides in the first 1x1 convolution of a block; a code says blocks of '
            f"style='pytorch', with strides in the 3x3 one: name the detector's config of that style"
        )
    code = '-'.join(code.split('-')[: backbone.get('num_stages', STAGES)])
    return 'resnext' if kind == 'ResNeXt' else block, base, code


def _neck_channels(model: Mapping[str, Any]) -> int:
    necks = model.get('neck') or []
    last = necks[-1] if isinstance(necks, (list, tuple)) and necks else necks
    channels = last.get('out_channels') if isinstance(last, Mapping) else None
    if not isinstance(channels, int):
        raise LeftOut('it has no neck with out_channels, such as FPN')
    return channels


def replace_channels(model: Mapping[str, Any], old: int, new: int) -> dict[str, Any]:
    """A copy of a model whose neck gives out ``new`` channels instead of ``old``, and in which all else follows.

    What follows: ``in_channels``, ``feat_channels`` and ``out_channels`` of necks, heads and RoI extractors that were
    as many. Widths of their own, such as ``fc_out_channels``, stay.

    Args:
        model: A model's config, left as it is.
        old: Channels to be replaced.
        new: What stands in their place.
    """
    out = copy.deepcopy(dict(model))
    for name, part in out.items():
        for node in nodes(part) if name != 'backbone' else ():
            for key in ('in_channels', 'feat_channels', 'out_channels'):
                if node.get(key) == old and type(node[key]) is int:
                    node[key] = new
    return out


def _pipelines(cfg: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The pipelines of a config by the name of the loader; validation and test lend theirs to one another.

    Raises:
        LeftOut: If there is none for training, or none for both others, or a loader has several.
    """
    found = {}
    for loader in LOADERS:
        own = [node['pipeline'] for node in nodes(cfg.get(loader)) if node.get('pipeline')]
        if any(one != own[0] for one in own[1:]):
            raise LeftOut(f'{loader} of its config has several pipelines, which are not alike')
        if own:
            found[loader] = copy.deepcopy(list(own[0]))
    for name, other in (LOADERS[1:], LOADERS[:0:-1]):
        if name not in found and other in found:
            found[name] = copy.deepcopy(found[other])
    missing = [loader for loader in LOADERS if loader not in found]
    if missing:
        raise LeftOut(f'its config has no pipeline in {", ".join(missing)}')
    return found


def set_pipelines(cfg: dict[str, Any], pipelines: Mapping[str, Sequence[Any]]) -> None:
    """Gives all data sets of a config's loaders other pipelines.

    Args:
        cfg: Changed in place; loaders that it lacks stay away.
        pipelines: By the name of the loader.
    """
    for loader, pipeline in pipelines.items():
        for node in list(nodes(cfg.get(loader))):
            if 'pipeline' in node:
                node['pipeline'] = copy.deepcopy(list(pipeline))


# -- reading --------------------------------------------------------------------------------------------------------

_EXAMPLE = "['detnas_mm::folder/net.py', dict(file='work_dirs/stage1/best.json', ids=['0a1b2c3d4e5f'])]"


def read_seeds(given: Any) -> tuple[list[Seed], list[str]]:
    """Reads what a config names as ``search.space.seeds``.

    Args:
        given: Config files, or ``dict(file='…/best.json', ids=[…])`` for nets that a search has exported, all of them
            without ``ids``; one or a list.

    Returns:
        The seeds in their order, and a line for each detector that is none.

    Raises:
        DetNASError: If a file is missing or cannot be read, or an id is unknown.
    """
    seeds: list[Seed] = []
    left_out: list[str] = []
    entries = [given] if isinstance(given, (str, Mapping)) else listed('search.space.seeds', given, _EXAMPLE)
    for name, source in (pair for entry in entries for pair in _sources(entry)):
        try:
            seeds.append(Seed.of(name, read_source('search.space.seeds', source).to_dict()))
        except LeftOut as reason:
            left_out.append(f'{name} ({reason})')
    return seeds, left_out


def _sources(entry: Any) -> Iterator[tuple[str, str]]:
    """What messages call a detector, and its config, of one entry."""
    if isinstance(entry, str):
        yield Path(entry).name if '::' not in entry else entry, entry
        return
    asked = keyed('search.space.seeds', entry, ('file', 'ids'), _EXAMPLE, ('file',))
    if not isinstance(asked['file'], str):
        raise DetNASError(f'search.space.seeds: file must be a path, as in {_EXAMPLE}; got {asked["file"]!r}.')
    file, ids = Path(asked['file']), asked.get('ids')
    if not file.is_file():
        raise MissingFileError(
            f'search.space.seeds: there is no {file}. Run the search of the first stage, which writes it, or name '
            f'other seeds: config files, or the best.json of another search.'
        )
    try:
        found = {str(net['id']): net for net in json.loads(file.read_text())}
    except (ValueError, TypeError, KeyError) as error:
        raise DetNASError(f'search.space.seeds: {file} is no best.json of a search ({error!r}).') from error
    unknown = [] if ids is None else [i for i in listed('search.space.seeds ids', ids, _EXAMPLE) if i not in found]
    if unknown:
        raise DetNASError(f'search.space.seeds: {file} has no {unknown[0]!r}; it has {", ".join(found)}.')
    for name in found if ids is None else ids:
        net = found[name]
        if 'config' not in net:
            raise DetNASError(f'search.space.seeds: {name} of {file} has no config: its search describes none.')
        yield f'{name} {net.get("arch", "")}'.strip(), str(file.parent / net['config'])
