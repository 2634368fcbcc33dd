"""Published architectures, as data.

Totals are counted on the nets that this package builds (``tests/test_zoo.py``); where the papers or the authors'
code state a figure, it is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from detnas_mm.spaces import Architecture, DetNASSpace, SearchSpace


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
        channel_split: How its stride-1 blocks deal their channels.
        source: Where the architecture was published.
    """

    name: str
    space: str
    arch: str
    params: int
    macs: int
    source: str
    input_size: tuple[int, int] = (224, 224)
    channel_split: str = 'even_odd'

    def build_space(self) -> SearchSpace:
        """The search space that the architecture belongs to."""
        return DetNASSpace(self.space)

    def architecture(self) -> Architecture:
        """The architecture as a member of its space."""
        return self.build_space().parse(self.arch)


_DETNAS = 'Chen et al., DetNAS, NeurIPS 2019'
_LARGE = '00312102|03123320|2113202221310333|13333333'

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
    )
}  # fmt: skip


def get(name: str) -> Published:
    """The published network of that name.

    Raises:
        ValueError: If there is none; lists those there are.
    """
    if name not in ZOO:
        raise ValueError(f'No published network is called {name!r}. There are: {", ".join(ZOO)}.')
    return ZOO[name]
