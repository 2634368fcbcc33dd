"""Published nets of MAE-DET."""

from __future__ import annotations

from dataclasses import dataclass

from detnas_mm import zoo
from detnas_mm.systems.mae_det.space import MAEDetSpace
from detnas_mm.systems.mae_det.structure import PUBLISHED


@dataclass(frozen=True, kw_only=True)
class PublishedStructure(zoo.Published):
    """A published structure.

    Attributes:
        layers: Number of convolutions without those of shortcuts.
    """

    space: str = 'relaxed'
    space_type: type[MAEDetSpace] = MAEDetSpace
    input_size: tuple[int, int] = (480, 480)
    source: str = "Sun et al., MAE-DET, ICML 2022; authors' code"
    layers: int


zoo.add(
    *(
        PublishedStructure(name=name, arch=PUBLISHED[name], params=params, macs=macs, layers=layers)
        for name, params, macs, layers in (
            ('maedet-s', 21_233_120, 10_883_750_400, 79),
            ('maedet-m', 25_843_536, 20_096_294_400, 91),
            ('maedet-l', 43_879_552, 34_218_064_800, 109),
        )
    )
)
