"""Published nets of IC-Conv: patterns of dilations for ResNets and a ResNeXt, read from ``published.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnas_mm import zoo
from detnas_mm.systems.nats.convs import SearchedConv
from detnas_mm.systems.nats.space import DilationSpace

_SOURCE = "Liu et al., IC-Conv, CVPR 2021; authors' code"
_WITHDRAWN = f'{_SOURCE}, first commit; later withdrawn by the authors (unconfirmed)'
#: Number of blocks per stage, by depth.
_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


@dataclass(frozen=True, kw_only=True)
class PublishedDilations(zoo.Published):
    """A published pattern of dilations, in the channel order of the authors' checkpoints.

    Attributes:
        backbone: Config of the plain backbone.
        largest: Largest dilation of its search space, in both directions.
    """

    space: str = 'ic-conv'
    space_type: type[DilationSpace] = DilationSpace
    source: str = _SOURCE
    backbone: dict[str, Any]
    largest: int

    def build_space(self) -> DilationSpace:
        """Returns its search space; built from the table of convolutions, so torch is not imported."""
        return self.space_type(preset=self.space, convs=self.convs(), genotypes=self.largest)

    def convs(self) -> Sequence[SearchedConv]:
        """Returns the table of the 3×3 convolutions of the plain backbone."""
        groups = self.backbone.get('groups', 1)
        width = groups * self.backbone.get('base_width', 64)
        return [
            SearchedConv(
                f'layer{stage}.{block}.conv2',
                width * 2 ** (stage - 1),
                groups,
                f'layer{stage}',
                # the first block's 3×3 convolution has the stride of the stage, so it reads the map of the stage before
                2 ** (stage if stage > 1 and block == 0 else stage + 1),
            )
            for stage, blocks in enumerate(_BLOCKS[self.backbone['depth']], 1)
            for block in range(blocks)
        ]


def _entries() -> list[PublishedDilations]:
    patterns = json.loads(Path(__file__).with_name('published.json').read_text())
    resnet = dict(type='mmdet.ResNet', style='pytorch')
    plain: dict[str, Any] = {
        'ic-resnet50': dict(resnet, depth=50),
        'ic-resnet101': dict(resnet, depth=101),
        'ic-resnext101': dict(resnet, type='mmdet.ResNeXt', depth=101, groups=32, base_width=4),
    }
    totals = {
        'ic-resnet50': (23_508_032, 4_087_136_256),
        'ic-resnet101': (42_500_160, 7_799_357_440),
        'ic-resnext101': (42_128_704, 7_967_948_800),
    }
    found = []
    for name, arch in patterns['nets'].items():
        net = '-'.join(name.split('-')[:2])
        params, macs = totals[net]
        found.append(
            PublishedDilations(
                name=name, arch=arch, params=params, macs=macs, backbone=plain[net],
                largest=6 if name.endswith('pose') else 4, source=_WITHDRAWN if 'resnext' in name else _SOURCE,
            )
        )  # fmt: skip
    return found


zoo.add(*_entries())
