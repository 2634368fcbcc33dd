"""Published detectors of SM-NAS whose architectures are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from detnas_mm import zoo
from detnas_mm.errors import DetNASError
from detnas_mm.systems.sm_nas.codes import BlockCode


@dataclass(frozen=True, kw_only=True)
class PublishedDetector(zoo.Published):
    """Published detector; ``arch``, ``params`` and ``macs`` are those of its backbone.

    ``arch`` is ``block_base_code``, such as ``'basic_64_1-21-21-12'``. Paper and code do not give the architectures of
    E0–E5. Those of E0 and E3 are from unconfirmed sources; detectors built from them have the published number of
    parameters.

    Attributes:
        config: Config of the detector, as in ``_base_``.
        detector_params: Learnable parameters of the whole detector at 80 classes.
        reported: The authors' figures: millions of parameters, GFLOPs, mAP on COCO minival, ms on a V100.
    """

    space: str = 'sm-nas'
    space_type: type = BlockCode
    source: str = "Yao et al., SM-NAS, AAAI 2020; authors' first code gives the figures alone: unconfirmed"
    config: str
    detector_params: int
    reported: tuple[float, float, float, float]

    @property
    def backbone(self) -> dict[str, str | int]:
        """Arguments ``block``, ``base`` and ``code`` of ``SMNASBackbone``."""
        block, base, code = self.arch.split('_')
        return dict(block=block, base=int(base), code=code)

    def build_space(self) -> NoReturn:
        """Raises an error: a whole detector belongs to no space of backbones.

        Raises:
            DetNASError: Always; names the config of the detector.
        """
        raise DetNASError(
            f'{self.name!r} is a whole detector, and belongs to no space of backbones. Inherit its config: '
            f'_base_ = {self.config!r}.'
        )


zoo.add(
    PublishedDetector(
        name='smnas-e0', arch='basic_64_1-21-21-12', config='detnas_mm::sm_nas/smnas-e0_fpn_coco.py',
        input_size=(512, 512), params=7_638_560, macs=7_119_831_040, detector_params=16_230_848,
        reported=(16.23, 22.01, 27.11, 24.56),
    ),
    PublishedDetector(
        name='smnas-e3', arch='bottleneck_56_211-111111111-2111111-11112111',
        config='detnas_mm::sm_nas/smnas-e3_cascade_coco.py',
        input_size=(600, 800), params=28_170_940, macs=57_991_942_400, detector_params=52_051_914,
        reported=(52.05, 116.22, 42.68, 50.71),
    ),
)  # fmt: skip
