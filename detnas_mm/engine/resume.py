"""Resumes trainings: finds the checkpoint, or starts from the beginning if there is none."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import Runner

from detnas_mm.checkpoints import load_checkpoint_file
from detnas_mm.errors import DetNASError

_NUMBERED = re.compile(r'(?:iter|epoch)_(\d+)\.pth')


def resume(cfg: Config, checkpoint: str | None = None, trust: bool = False) -> None:
    """Sets a training to resume from a checkpoint, or from the last one of its work dir.

    If there is none, ``load_from`` stays set: mmengine's Runner would start with random weights. The work dir may have
    been moved or copied.

    Args:
        cfg: A training with ``work_dir``; ``resume`` and ``load_from`` are set.
        checkpoint: The checkpoint. Defaults to None: the last one of the work dir.
        trust: Whether checkpoints may contain more than tensors.

    Raises:
        DetNASError: If there are checkpoints, but none can be resumed.
    """
    cfg.resume = True
    if checkpoint:
        problem = _problem(checkpoint, trust)
        if problem:
            raise DetNASError(f'--resume: {problem}')
    else:
        checkpoint = last_checkpoint(cfg.work_dir, trust)
    if checkpoint is None:
        cfg.resume = False
        begin = f'starting from {cfg.load_from}' if cfg.get('load_from') else 'training begins from the start'
        print_log(f'There is no checkpoint in {cfg.work_dir}; {begin}.', logger='current')
        return
    if cfg.get('load_from') not in (None, checkpoint):
        print_log(f'Resuming from {checkpoint}; {cfg.load_from} is not loaded again.', logger='current')
    cfg.load_from = checkpoint


def resume_as_written(cfg: Config, trust: bool = False) -> None:
    """Sets a training with ``resume=True`` in its config to resume, like :func:`resume`.

    To mmengine, ``load_from`` then names the checkpoint to resume from. Weights without training state cannot be
    resumed; the training starts from them.

    Args:
        cfg: See :func:`resume`.
        trust: See :func:`resume`.

    Raises:
        DetNASError: See :func:`resume`.
    """
    if not cfg.get('resume'):
        return
    if (cfg.get('train_cfg') or {}).get('max_epochs') == 0:  # a search, which resumes from its ledger
        cfg.resume = False
    elif not cfg.get('load_from') or _problem(cfg.load_from, trust):
        resume(cfg, None, trust)


def resume_runner(runner: Runner) -> None:
    """Sets a Runner of another train script to resume, before it loads anything; for ``before_run`` of hooks.

    Raises:
        DetNASError: See :func:`resume`.
    """
    if runner._resume and runner._load_from is None:  # mmengine has no public names for them
        runner._load_from = last_checkpoint(runner.work_dir)
        if runner._load_from is None:
            runner._resume = False
            runner.logger.warning(
                f'There is no checkpoint in {runner.work_dir} to resume from; training begins from the start, and '
                f'without the weights of load_from, which this train script has dropped.'
            )


def last_checkpoint(folder: str | Path, trust: bool = False) -> str | None:
    """Returns the last checkpoint of a work dir that can be resumed; None if nothing was saved there.

    If the last one is damaged or missing, the one before it is used, with a warning.

    Args:
        folder: The work dir.
        trust: Whether checkpoints may contain more than tensors.

    Raises:
        DetNASError: If none of its checkpoints can be resumed.
    """
    note = Path(folder, 'last_checkpoint')
    numbered = list(note.parent.iterdir()) if note.parent.is_dir() else []
    found = [(int(match[1]), path) for path in numbered if (match := _NUMBERED.fullmatch(path.name))]
    if not note.is_file() and not found:
        return None
    named = note.read_text(encoding='utf-8', errors='replace').strip() if note.is_file() else ''
    if '://' in named:
        return named
    here = note.parent / Path(named).name  # the folder may have been moved, or be an older copy
    last = here if here.is_file() or not named else Path(named)
    problem = _problem(last, trust) if named else f'{note} is {"empty" if note.is_file() else "not there"}'
    if not problem:
        return str(last)
    others = [path for _, path in sorted(found, reverse=True) if path != last]
    other = next((path for path in others if not _problem(path, trust)), None)
    if other is None:
        raise DetNASError(
            f'{problem}. {note.parent} has no other checkpoint that can be resumed. Give one: --resume '
            f'CHECKPOINT, or start from the beginning in another --work-dir.'
        )
    print_log(f'{problem}. Resuming from {other} instead.', logger='current', level=logging.WARNING)
    return str(other)


def _problem(path: str | Path, trust: bool) -> str:
    """Returns the reason why a checkpoint cannot be resumed; empty if it can."""
    if '://' in str(path):
        return ''
    try:
        found = load_checkpoint_file(path, trust)
    except DetNASError as error:
        return str(error).removesuffix('.')
    except OSError as error:  # raised by torch for some truncated files
        return f'{path} cannot be read as a checkpoint, it may be truncated: {error}'
    meta = found.get('meta') if isinstance(found, dict) else None
    if not isinstance(meta, dict) or not {'epoch', 'iter'} <= set(meta) or 'message_hub' not in found:
        return f'{path} has weights but no training state: use it as load_from instead of resuming'
    return ''
