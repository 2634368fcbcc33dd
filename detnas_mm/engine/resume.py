"""From where a training resumes, or where it begins if there is nothing to resume."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config
from mmengine.logging import print_log


def resume(cfg: Config, checkpoint: str | None = None) -> None:
    """Lets a training resume from a checkpoint, or from the last one of its work dir.

    Where that has none, ``load_from`` stays in force: mmengine's Runner would begin with random weights. A work dir may
    have been moved.

    Args:
        cfg: A training with ``work_dir``; ``resume`` and ``load_from`` are changed.
        checkpoint: What to resume from. Defaults to None: the last checkpoint of the work dir.

    Raises:
        SystemExit: With one sentence, if the last checkpoint is gone.
    """
    cfg.resume = True
    if checkpoint:
        cfg.load_from = checkpoint
        return
    note = Path(cfg.work_dir, 'last_checkpoint')
    if not note.is_file():
        cfg.resume = False
        begin = f'starting from {cfg.load_from}' if cfg.get('load_from') else 'training begins from the start'
        print_log(f'There is no checkpoint in {cfg.work_dir}; {begin}.', logger='current')
        return
    named = note.read_text().strip()
    here = note.parent / Path(named).name
    if named and ('://' in named or Path(named).exists()):
        cfg.load_from = None  # mmengine's Runner reads the note itself
    elif named and here.exists():
        cfg.load_from = str(here)
    else:
        raise SystemExit(
            f'error: {note} names the checkpoint {named!r}, which is not there. Give another: --resume CHECKPOINT, or '
            f'delete {note} to begin from the start.'
        )
