"""Published architectures, as data.

Totals are counted on the nets that this package builds (``tests/test_zoo.py``); where the papers or the authors'
code state a figure, it is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from detnas_mm.errors import DetNASError
from detnas_mm.spaces import Architecture, DetNASSpace, MAEDetSpace, SearchSpace
from detnas_mm.spaces.structure import PUBLISHED


@dataclass(frozen=True)
class Published:
    """One published network.

    Attributes:
        name: How configs call it.
        space: The space it was found in, ready to be built.
        arch: The architecture, as :meth:`SearchSpace.parse` reads it.
        params: Learnable parameters of the backbone, without last convolution and classifier.
        macs: Multiply-adds of the backbone's convolutions at ``input_size``.
        input_size: (height, width) in pixels.
        channel_split: How its stride-1 blocks deal their channels; None where there is no such choice.
        space_type: The class of its space.
        layers: Convolutions in a row, without those of shortcuts; None where nobody counts them.
        source: Where the architecture was published.
    """

    name: str
    space: str
    arch: str
    params: int
    macs: int
    source: str
    input_size: tuple[int, int] = (224, 224)
    channel_split: str | None = 'even_odd'
    space_type: Callable[[str], SearchSpace] = DetNASSpace
    layers: int | None = None

    def build_space(self) -> SearchSpace:
        """The search space that the architecture belongs to."""
        return self.space_type(self.space)

    def architecture(self) -> Architecture:
        """The architecture as a member of its space."""
        return self.build_space().parse(self.arch)


_DETNAS = 'Chen et al., DetNAS, NeurIPS 2019'
_LARGE = '00312102|03123320|2113202221310333|13333333'


def _maedet(name: str, params: int, macs: int, layers: int) -> Published:
    source = "Sun et al., MAE-DET, ICML 2022; authors' code"
    return Published(
        name, 'relaxed', PUBLISHED[name], params, macs, source, (480, 480), None, MAEDetSpace, layers
    )  # fmt: skip


#: All published networks by name.
ZOO: dict[str, Published] = {
    net.name: net
    for net in (
        Published(
            'coco-fpn-300m', 'small', '2120|2112|33130031|3132', 1_849_680, 288_082_368,
            f"{_DETNAS}, found for FPN on COCO; authors' code",
        ),
        Published(
            'coco-retinanet-300m', 'small', '2311|3213|31113320|3333', 2_041_888, 291_205_824,
            f"{_DETNAS}, found for RetinaNet on COCO; authors' code",
        ),
        Published(
            'clsnasnet-300m', 'small', '0031|1100|20211020|2132', 1_663_696, 285_592_384,
            f'{_DETNAS}, found for ImageNet classification; read off a figure',
        ),
        Published(
            'coco-fpn-1.3g', 'large', _LARGE, 8_415_216, 1_269_181_536,
            f"{_DETNAS}, the DetNASNet of table 2; authors' code",
        ),
        Published(
            'coco-fpn-3.8g', 'large-3.8g', _LARGE, 26_724_428, 3_937_832_864,
            f"{_DETNAS}, DetNASNet (3.8): the 1.3G net 1.8 times as wide; authors' code",
        ),
        _maedet('maedet-s', 21_233_120, 10_883_750_400, 79),
        _maedet('maedet-m', 25_843_536, 20_096_294_400, 91),
        _maedet('maedet-l', 43_879_552, 34_218_064_800, 109),
    )
}  # fmt: skip


def get(name: str, space_type: Any = None) -> Published:
    """The published network of that name.

    Args:
        name: See :data:`ZOO`.
        space_type: Only networks of this class of spaces. Defaults to any.

    Raises:
        ValueError: If there is none; lists those there are.
    """
    known = {key: net for key, net in ZOO.items() if space_type in (None, net.space_type)}
    if name not in known:
        raise DetNASError(f'No published network is called {name!r}. There are: {", ".join(known)}.')
    return known[name]
