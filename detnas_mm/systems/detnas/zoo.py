"""Published nets of DetNAS."""

from __future__ import annotations

from dataclasses import dataclass

from detnas_mm import zoo
from detnas_mm.systems.detnas.space import DetNASSpace

_PAPER = 'Chen et al., DetNAS, NeurIPS 2019'
_LARGE = '00312102|03123320|2113202221310333|13333333'


@dataclass(frozen=True, kw_only=True)
class PublishedDetNASNet(zoo.Published):
    """A published net of a DetNAS space.

    Attributes:
        channel_split: How its stride-1 blocks split their channels, see :class:`DetNASSupernet`.
    """

    space_type: type[DetNASSpace] = DetNASSpace
    channel_split: str = 'even_odd'


zoo.add(
    PublishedDetNASNet(
        name='coco-fpn-300m',
        space='small',
        arch='2120|2112|33130031|3132',
        params=1_849_680,
        macs=288_082_368,
        source=f"{_PAPER}, found for FPN on COCO; authors' code",
    ),
    PublishedDetNASNet(
        name='coco-retinanet-300m',
        space='small',
        arch='2311|3213|31113320|3333',
        params=2_041_888,
        macs=291_205_824,
        source=f"{_PAPER}, found for RetinaNet on COCO; authors' code",
    ),
    PublishedDetNASNet(
        name='clsnasnet-300m',
        space='small',
        arch='0031|1100|20211020|2132',
        params=1_663_696,
        macs=285_592_384,
        source=f'{_PAPER}, found for ImageNet classification; read off a figure',
    ),
    PublishedDetNASNet(
        name='coco-fpn-1.3g',
        space='large',
        arch=_LARGE,
        params=8_415_216,
        macs=1_269_181_536,
        source=f"{_PAPER}, the DetNASNet of table 2; authors' code",
    ),
    PublishedDetNASNet(
        name='coco-fpn-3.8g',
        space='large-3.8g',
        arch=_LARGE,
        params=26_724_428,
        macs=3_937_832_864,
        source=f"{_PAPER}, DetNASNet (3.8): the 1.3G net 1.8 times as wide; authors' code",
    ),
)
