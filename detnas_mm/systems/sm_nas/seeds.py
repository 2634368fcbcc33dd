"""Reads the seeds of a modular search: detectors of ordinary configs, split into a fixed and a searched part.

Model and pipelines are fixed; the backbone's code and base channels and the neck's channels are searched. Detectors
that differ only in the searched part are one combination of modules, as the first stage of SM-NAS finds it (Yao et
al., AAAI 2020, section 3.1), with several seeds.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnas_mm.checks import keyed, listed
from detnas_mm.cli import read_source
from detnas_mm.config_types import comparable, nodes, type_name
from detnas_mm.errors import DetNASError, MissingFileError
from detnas_mm.spaces.images import RGB
from detnas_mm.systems.sm_nas.codes import RESNET18, RESNET50, BlockCode
from detnas_mm.systems.sm_nas.modules import STAGES
from detnas_mm.systems.sm_nas.recipe import frozen_settings

#: Type of blocks of a ResNet, and code of a ResNet or ResNeXt, by depth.
_RESNETS = {
    18: ('basic', RESNET18),
    34: ('basic', RESNET50),
    50: ('bottleneck', RESNET50),
    101: ('bottleneck', f'111-2111-2{"1" * 22}-211'),
    152: ('bottleneck', f'111-21111111-2{"1" * 35}-211'),
}
#: Settings of a ResNet that a code cannot express, with the values that are the default.
_UNSAID: dict[str, tuple[Any, ...]] = dict(
    strides=((1, 2, 2, 2), (1, 2, 2), (1, 2)), dilations=((1, 1, 1, 1), (1, 1, 1), (1, 1)),
    dcn=(None,), plugins=(None,),
    deep_stem=(False,), avg_down=(False,),
)  # fmt: skip
#: Settings of the seed's backbone that the searched backbone keeps.
KEPT = ('out_indices', 'norm_cfg', 'conv_cfg', 'with_cp', 'zero_init_residual')
#: Loaders whose pipelines belong to a detector.
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
#: Placeholder for the channels of the neck in a combination's model.
_NECK = 0


class LeftOut(Exception):
    """Raised for a detector that cannot be a seed; the message gives the reason."""


@dataclass(frozen=True)
class Seed:
    """A detector, split into its fixed and its searched part.

    Attributes:
        source: Its name, for messages.
        block: Type of its blocks, see :data:`~detnas_mm.systems.sm_nas.codes.EXPANSION`.
        base: Its base channels.
        code: Its code.
        neck: Output channels of its neck.
        model: The rest of its model; 0 in the place of the neck's channels, None in that of the backbone's.
        pipelines: Its pipelines by the name of the loader.
        imports: Modules that its config imports.
        scope: Its ``default_scope``.
        frozen: Settings by which its own training freezes parts, such as ``'backbone.norm_eval=True'``.
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
        """Number of stages of its backbone."""
        return len(BlockCode.parse(self.code).stages)

    @classmethod
    def of(cls, source: str, cfg: Mapping[str, Any]) -> Seed:
        """Splits the detector of a config.

        Args:
            source: Its name, for messages.
            cfg: The config as nested dicts, classes as text; it is not changed.

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
            first['in_channels'] = [None] * len(first['in_channels'])  # set by the backbone, which is searched
        imports = (cfg.get('custom_imports') or {}).get('imports') or ()
        return cls(
            source, block, base, code, neck, replace_channels(model, neck, _NECK), _pipelines(cfg),
            (imports,) if isinstance(imports, str) else tuple(imports), cfg.get('default_scope') or 'mmdet', frozen,
        )  # fmt: skip

    def with_neck(self, channels: int) -> dict[str, Any]:
        """Returns the fixed part of the model, with these channels in the neck and the parts after it."""
        return replace_channels(self.model, _NECK, channels)

    @property
    def fixed(self) -> Any:
        """Its fixed part, in a form that can be compared."""
        return comparable(dict(block=self.block, stages=self.stages, model=self.model, pipelines=self.pipelines))

    def complete(self, cfg: dict[str, Any]) -> None:
        """Sets what is fixed besides the model in a config: pipelines of all data sets, scope and imported modules.

        Args:
            cfg: The config; changed in place. Loaders that it does not have are not added.
        """
        cfg.setdefault('default_scope', self.scope)
        for loader, pipeline in self.pipelines.items():
            for node in list(nodes(cfg.get(loader))):
                if 'pipeline' in node:
                    node['pipeline'] = copy.deepcopy(list(pipeline))
        if self.imports:
            own = dict(cfg.get('custom_imports') or dict(allow_failed_imports=False))
            given = own.get('imports') or []
            known = [given] if isinstance(given, str) else list(given)
            cfg['custom_imports'] = own | dict(imports=list(dict.fromkeys([*known, *self.imports])))


def _code_of(backbone: Mapping[str, Any]) -> tuple[str, int, str]:
    """Returns type of blocks, base channels and code of a backbone.

    Raises:
        LeftOut: If no code describes it.
    """
    kind = type_name(backbone.get('type'))
    if backbone.get('in_channels', RGB) != RGB:
        raise LeftOut(f'its backbone takes images of {backbone["in_channels"]} channels, not {RGB}')
    if kind == 'SMNASBackbone':
        own = _read_stages(str(BlockCode.parse(backbone.get('code', ''))), backbone)
        return backbone.get('block', 'basic'), backbone.get('base', 64), own
    depth = backbone.get('depth')
    if kind not in ('ResNet', 'ResNeXt') or depth not in _RESNETS:
        raise LeftOut(f'its backbone {kind}{"" if depth is None else f" of depth {depth}"} has no code')
    for name, usual in _UNSAID.items():
        given = backbone.get(name, usual[0])
        if (tuple(given) if isinstance(given, (list, tuple)) else given) not in usual:
            raise LeftOut(f'its backbone has {name}={given!r}, which a code cannot express')
    base = backbone.get('base_channels', 64)
    if kind == 'ResNeXt':
        grouped, usual = (backbone.get('groups', 1), backbone.get('base_width', 4)), (base // 2, 4)
        if grouped != usual:
            raise LeftOut(
                f'its ResNeXt has groups and base_width {grouped}, and a code with {base} base channels has {usual}'
            )
    block, code = _RESNETS[depth]
    style = backbone.get('style', 'pytorch')
    if block != 'basic' and style != 'pytorch':
        raise LeftOut(
            f'its backbone has style={style!r}, with the stride of a block in its first 1x1 convolution; a code means '
            f"style='pytorch', with the stride in the 3x3 convolution: give a config of that style"
        )
    code = '-'.join(code.split('-')[: backbone.get('num_stages', STAGES)])
    return 'resnext' if kind == 'ResNeXt' else block, base, _read_stages(code, backbone)


def _read_stages(code: str, backbone: Mapping[str, Any]) -> str:
    """Returns a code without the stages after the last one whose output is returned: nothing would train them."""
    indices = backbone.get('out_indices')
    last = STAGES - 1 if indices is None else max([indices] if isinstance(indices, int) else indices)
    return '-'.join(code.split('-')[: last + 1])


def _neck_channels(model: Mapping[str, Any]) -> int:
    necks = model.get('neck') or []
    last = necks[-1] if isinstance(necks, (list, tuple)) and necks else necks
    channels = last.get('out_channels') if isinstance(last, Mapping) else None
    if not isinstance(channels, int):
        raise LeftOut('it has no neck with out_channels, such as FPN')
    return channels


def replace_channels(model: Mapping[str, Any], old: int, new: int) -> dict[str, Any]:
    """Returns a copy of a model with other output channels of the neck.

    Changes ``in_channels``, ``feat_channels`` and ``out_channels`` of necks, heads and RoI extractors that are equal to
    ``old``. Widths that do not depend on the neck, such as ``fc_out_channels``, stay.

    Args:
        model: Model config; it is not changed.
        old: Channels to replace.
        new: Channels in their place.
    """
    out = copy.deepcopy(dict(model))
    for name, part in out.items():
        for node in nodes(part) if name != 'backbone' else ():
            for key in ('in_channels', 'feat_channels', 'out_channels'):
                if node.get(key) == old and type(node[key]) is int:
                    node[key] = new
    return out


def _pipelines(cfg: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Returns the pipelines of a config by loader; validation uses that of the test if it has none, and vice versa.

    Raises:
        LeftOut: If there is none for training, or for neither validation nor test, or a loader has different ones.
    """
    found = {}
    for loader in LOADERS:
        own = [node['pipeline'] for node in nodes(cfg.get(loader)) if node.get('pipeline')]
        if any(one != own[0] for one in own[1:]):
            raise LeftOut(f'{loader} of its config has several different pipelines')
        if own:
            found[loader] = copy.deepcopy(list(own[0]))
    for name, other in (LOADERS[1:], LOADERS[:0:-1]):
        if name not in found and other in found:
            found[name] = copy.deepcopy(found[other])
    missing = [loader for loader in LOADERS if loader not in found]
    if missing:
        raise LeftOut(f'its config has no pipeline in {", ".join(missing)}')
    return found


# -- reading --------------------------------------------------------------------------------------------------------

_EXAMPLE = "['detnas_mm::folder/net.py', dict(file='work_dirs/stage1/best.json', ids=['0a1b2c3d4e5f'])]"


def read_seeds(given: Any) -> tuple[list[Seed], list[str]]:
    """Reads ``search.space.seeds`` of a config.

    Args:
        given: Config files, or ``dict(file='…/best.json', ids=[…])`` for nets exported by a search (all of them without
            ``ids``); one or a list.

    Returns:
        The seeds in their order, and a line for each detector that cannot be one.

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
    """Yields name and config file of each detector of an entry."""
    if isinstance(entry, str):
        yield Path(entry).name if '::' not in entry else entry, entry
        return
    read = keyed('search.space.seeds', entry, ('file', 'ids'), _EXAMPLE, ('file',))
    if not isinstance(read['file'], str):
        raise DetNASError(f'search.space.seeds: file must be a path, as in {_EXAMPLE}; got {read["file"]!r}.')
    file, ids = Path(read['file']), read.get('ids')
    if not file.is_file():
        raise MissingFileError(
            f'search.space.seeds: there is no file {file}. Run the search of the first stage, which writes it, or give '
            f'other seeds: config files, or the best.json of another search.'
        )
    try:
        found = {str(net['id']): net for net in json.loads(file.read_text())}
    except (ValueError, TypeError, KeyError) as error:
        raise DetNASError(f'search.space.seeds: {file} is not a best.json of a search ({error!r}).') from error
    unknown = [] if ids is None else [i for i in listed('search.space.seeds ids', ids, _EXAMPLE) if i not in found]
    if unknown:
        raise DetNASError(f'search.space.seeds: {file} has no id {unknown[0]!r}; its ids are {", ".join(found)}.')
    for name in found if ids is None else ids:
        net = found[name]
        if 'config' not in net:
            raise DetNASError(
                f'search.space.seeds: {name} of {file} has no config; its search exported none. Give config files.'
            )
        yield f'{name} {net.get("arch", "")}'.strip(), str(file.parent / net['config'])
