"""Length of a config's training, and whether the training resumes exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from detnas_mm.config_types import is_other, nodes, resolve_type, type_name
from detnas_mm.errors import DetNASError
from detnas_mm.registry import refuse_unknown_type, unknown_arguments

#: Keys of ``train_cfg`` that its loop does not take: they choose it, or are mmengine's mark on what was inherited.
_NO_ARGUMENTS = ('type', 'by_epoch', '_scope_')
#: Advice, since settings of an inherited ``train_cfg`` stay unless it is replaced.
_BY_ITERATIONS = (
    'To count iterations instead of the epochs of an inherited config: '
    "train_cfg=dict(_delete_=True, type='IterBasedTrainLoop', max_iters=…), which replaces its train_cfg as a whole."
)


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
            DetNASError: If its ``train_cfg`` has no number of epochs or iterations, or does not fit its loop.
        """
        settings = cfg.get('train_cfg') or {}
        loop = _loop(settings, cfg.get('default_scope'))
        by_epoch = settings.get('max_epochs') is not None and loop is not IterBasedTrainLoop
        total = settings.get('max_epochs' if by_epoch else 'max_iters')
        if isinstance(total, bool) or not isinstance(total, int) or total < 1:
            raise DetNASError(
                f'Candidates are trained by the config, and its train_cfg is {dict(settings)!r:.200}: give it '
                f'max_epochs of at least 1, or count iterations. {_BY_ITERATIONS}'
            )
        refusal = unknown_arguments(loop, {key: settings[key] for key in settings if key not in _NO_ARGUMENTS})
        if refusal:
            raise DetNASError(f'train_cfg: {refusal} {_BY_ITERATIONS}')
        return cls(by_epoch, total, _inexact(cfg, loop))


def _loop(settings: Mapping[str, Any], scope: str | None) -> Any:
    """Returns the class of a training loop, chosen as mmengine does: by ``type`` or by ``by_epoch``.

    Raises:
        DetNASError: If there is not exactly one of the two, or the type is not registered.
    """
    if ('type' in settings) == ('by_epoch' in settings):
        has = 'both type and by_epoch' if 'type' in settings else 'neither type nor by_epoch'
        raise DetNASError(
            f'train_cfg has {has}: {dict(settings)!r:.200}. Give it one of them, such as '
            f"type='EpochBasedTrainLoop' with max_epochs. {_BY_ITERATIONS}"
        )
    if 'by_epoch' in settings:
        return EpochBasedTrainLoop if settings['by_epoch'] else IterBasedTrainLoop
    loop = resolve_type(settings, LOOPS, scope)
    if loop is None:
        refuse_unknown_type('train_cfg', settings['type'], LOOPS)
    return loop


def _inexact(cfg: Mapping[str, Any], loop: Any) -> str:
    if loop not in (EpochBasedTrainLoop, IterBasedTrainLoop):
        return f'its loop is {type_name(loop)}'
    for node in (one for key in ('train_dataloader', 'model') for one in nodes(cfg.get(key))):
        if is_other(node, 'keeps_state'):
            return f'{type_name(node["type"])} keeps a random state of its own'
    return ''
