"""Commands that follow a training: the last lines of ``tools/train.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detnas_mm.cli import typed
from detnas_mm.errors import DetNASError
from detnas_mm.options import option_word

_INIT = 'model.backbone.init_cfg'


def after_training(cfg: Any) -> list[str]:
    """Lines that name the last checkpoint of a training, and the commands that take it.

    The next config is found by the names in ``configs/``: ``…_search_…`` after ``…_supernet_…``, else search configs
    whose ``_base_`` is the trained config; and a detector's supernet after a classifier's.

    Args:
        cfg: The config that was trained, with its ``filename`` and ``work_dir``.

    Returns:
        One command a line, see :func:`~detnas_mm.cli.typed`; empty where no checkpoint was written.
    """
    note = Path(cfg.work_dir, 'last_checkpoint')
    if not note.is_file():
        return []
    checkpoint = Path(note.read_text(encoding='utf-8').strip())
    lines = [f'Trained: {checkpoint}']
    config = Path(cfg.filename or '')
    if cfg.get('test_dataloader') is not None and config.is_file():
        lines.append(f'Test it: {typed("test.py", config, checkpoint)}')
    if '_supernet' not in config.stem:
        return lines
    lines += [f'Search in it: {typed("search.py", search, checkpoint)}' for search in _searches(config)]
    before, classifies, _ = config.stem.partition('_cls')
    for detector in sorted(config.parent.glob(f'{before}_*.py')) if classifies else ():
        if '_cls' not in detector.stem:
            lines.append(f'Train a supernet of detectors from it: {_from_backbone(detector, checkpoint)}')
    return lines


def _searches(supernet: Path) -> list[Path]:
    """Returns the configs of searches in a supernet, beside its config."""
    search = supernet.with_name(supernet.name.replace('_supernet_', '_search_'))
    if search != supernet and search.is_file():
        return [search]
    beside = sorted(supernet.parent.glob('*_search*.py'))
    return [one for one in beside if f"'./{supernet.name}'" in one.read_text(encoding='utf-8')]


def _from_backbone(config: Path, checkpoint: Path) -> str:
    values = dict(type='Pretrained', prefix='backbone.', checkpoint=str(checkpoint.absolute()))
    try:
        words = [option_word(f'{_INIT}.{name}', value) for name, value in values.items()]
    except DetNASError:  # a path with both kinds of quotes
        return f'{typed("train.py", config)}, with {_INIT} in a config of your own'
    return typed('train.py', config, '--cfg-options', *words)
