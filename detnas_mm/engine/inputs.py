"""What a job reads and where it writes, looked at before it starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from detnas_mm.compat import load_checkpoint_file
from detnas_mm.config_types import is_other, type_name
from detnas_mm.engine.config import nodes


def check_work_dir(folder: Path) -> None:
    """Looks whether results can be written, before anything is loaded.

    Raises:
        SystemExit: With one sentence, if the folder is none, or can be neither made nor written into.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise SystemExit(f'error: --work-dir {folder}: {there} is a file; name a folder.')
    if not os.access(there, os.W_OK):
        raise SystemExit(f'error: --work-dir {folder}: {there} cannot be written into; name another folder.')


def check_checkpoint(path: str | None, trust: bool) -> None:
    """Refuses a missing file, and one that holds more than plain tensors unless it is trusted.

    Raises:
        SystemExit: With one sentence.
    """
    if path is None or '://' in path:
        return
    try:
        load_checkpoint_file(path, trust)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error


def check_inputs(cfg: Config, trust: bool = False, splits: Sequence[str] = ('train', 'val')) -> None:
    """Checks what a job reads before it starts: checkpoints, and the folders of its data.

    Args:
        cfg: The job.
        trust: Whether checkpoints may hold more than tensors.
        splits: Whose data are read.

    Raises:
        SystemExit: With one sentence.
    """
    check_checkpoint(cfg.get('load_from'), trust)
    for node in nodes(cfg.get('model', {})):
        if is_other(node, 'Pretrained'):
            check_checkpoint(node.get('checkpoint'), trust)
    check_data(cfg, [*(f'{split}_dataloader' for split in splits), 'search'])


def check_data(cfg: Any, keys: Sequence[str]) -> None:
    """Checks that the folders and annotations are there which parts of a config name.

    Raises:
        SystemExit: With one sentence.
    """
    for key in keys:
        for node in nodes(cfg.get(key)):
            folder = node.get('data_root')
            annotations = node.get('ann_file')
            if annotations and '://' not in f'{folder}{annotations}':
                file = Path(folder or '', annotations)
                if (folder is None or Path(folder).is_dir()) and not file.exists():
                    raise SystemExit(f'error: there is no file {file}, where {key} looks for annotations.')
            if folder and '://' not in folder and not Path(folder).is_dir():
                what = type_name(node.get('type', 'data'))
                raise SystemExit(
                    f'error: there is no folder {folder}, where {key} looks for {what}. Digits is made by: python '
                    f'tools/dataset_converters/make_digits.py; where ImageNet, COCO and VOC go stands in the READMEs '
                    f'of configs/.'
                )
