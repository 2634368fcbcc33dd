"""Length of a config's training, and whether the training resumes exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from detnas_mm.config_types import is_other, nodes, resolve_type, type_name
from detnas_mm.errors import DetNASError


@dataclass(frozen=True)
class Schedule:
    """Training schedule of a config.

    Attributes:
        by_epoch: Whether it counts epochs; else iterations.
        total: Number of epochs or iterations.
        inexact: Why a training cannot be resumed exactly, so that it begins again from the start when it is killed;
            empty if it resumes to the last bit.
    """

    by_epoch: bool
    total: int
    inexact: str = ''

    @property
    def unit(self) -> str:
        """``'epochs'`` or ``'iterations'``."""
        return 'epochs' if self.by_epoch else 'iterations'

    @classmethod
    def read(cls, cfg: Mapping[str, Any]) -> Schedule:
        """Reads the schedule of a whole config.

        Args:
            cfg: The config.

        Raises:
            DetNASError: If its ``train_cfg`` has no number of epochs or iterations.
        """
        settings = cfg.get('train_cfg') or {}
        own = EpochBasedTrainLoop if settings.get('by_epoch', True) else IterBasedTrainLoop
        loop = resolve_type(settings, LOOPS, cfg.get('default_scope')) if settings.get('type') else own
        by_epoch = settings.get('max_epochs') is not None and loop is not IterBasedTrainLoop
        total = settings.get('max_epochs' if by_epoch else 'max_iters')
        if isinstance(total, bool) or not isinstance(total, int) or total < 1:
            raise DetNASError(
                f'Candidates are trained by the config, and its train_cfg is {dict(settings)!r:.200}: give it '
                f"max_epochs, or type='IterBasedTrainLoop' and max_iters, of at least 1."
            )
        return cls(by_epoch, total, _inexact(cfg, loop))


def _inexact(cfg: Mapping[str, Any], loop: Any) -> str:
    if loop not in (EpochBasedTrainLoop, IterBasedTrainLoop):
        return f'its loop is {type_name(loop)}'
    for node in (one for key in ('train_dataloader', 'model') for one in nodes(cfg.get(key))):
        if is_other(node, 'keeps_state'):
            return f'{type_name(node["type"])} keeps a random state of its own'
    return ''
