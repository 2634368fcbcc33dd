"""Reading configs, making them fit the machine at hand, and writing them. Nothing here starts anything."""

from __future__ import annotations

import argparse
import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from detnas_mm.cli import override
from detnas_mm.compat import cuda_usable
from detnas_mm.config_types import as_text, is_other
from detnas_mm.errors import DetNASError
from detnas_mm.files import write_text

_HOURS = 3600


def read_config(args: argparse.Namespace) -> Config:
    """Reads the config of parsed arguments as it is written, with the command line's options applied.

    Classes of new-style configs are turned into their names. ``launcher`` and ``work_dir`` are set.

    Args:
        args: Of :func:`detnas_mm.cli.parser`.
    """
    cfg = Config.fromfile(args.config)
    override(cfg, args.cfg_options)
    cfg.launcher = args.launcher
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
    return cfg


def fit_to_machine(cfg: Config) -> Config:
    """Returns a config that runs where there is no GPU or no process group; the given one stays as it is.

    SyncBN becomes BN without a process group or without CUDA; several CPU processes communicate by gloo. Collective
    operations get two hours before they time out, since a rank may wait that long for another one's evaluation.
    """
    out = copy.deepcopy(cfg)
    cuda = cuda_usable()
    distributed = out.get('launcher', 'none') != 'none'
    dist_cfg = out.setdefault('env_cfg', ConfigDict()).setdefault('dist_cfg', ConfigDict(backend='nccl'))
    dist_cfg.setdefault('timeout', 2 * _HOURS)
    if not (cuda and distributed) and 'model' in out:
        replaced = _replace_norm(out.model)
        if replaced:
            reason = 'no GPU' if distributed else 'single process'
            layers = 'layer' if replaced == 1 else 'layers'
            print_log(f'Replaced SyncBN by BN in {replaced} {layers} of the config: {reason}.', logger='current')
    if distributed and not cuda:
        dist_cfg.backend = 'gloo'
        out.model_wrapper_cfg = ConfigDict(
            type='MMDistributedDataParallel', device_ids=None, find_unused_parameters=True, broadcast_buffers=False
        )
    return out


def _replace_norm(node: Any) -> int:
    """Turns SyncBN into BN everywhere below a config node; returns how often."""
    found = [one for one in nodes(node) if is_other(one, 'SyncBN')]
    for one in found:
        one['type'] = 'BN'
    return len(found)


def nodes(node: Any) -> Iterator[dict]:
    """All dicts in a part of a config, itself included."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        yield from nodes(child)


def config_text(cfg: Config) -> str:
    """The text of a config file from which the same config is read; new-style classes are in it by name.

    Raises:
        DetNASError: If it would be read as something else, or not at all; names the setting.
    """
    plain = as_text(cfg)
    text = _text_read_back(plain)
    if text is None:
        key, value = _unreadable(plain.to_dict())
        raise DetNASError(
            f'A search writes its config, and those of the nets it finds, into files. {key or "It"} is {value!r:.200}, '
            f'which would not be read from a file as it is: give it as text, numbers, lists and dicts of these.'
        )
    return text


def _text_read_back(cfg: Config) -> str | None:
    """The text of a config in plain values; None if another config, or none, is read from it."""
    try:
        text = cfg.pretty_text
        return text if Config.fromstring(text, '.py').to_dict() == cfg.to_dict() else None
    except Exception:  # whatever the text, run as a config, raises
        return None


def _unreadable(value: Any, key: str = '') -> tuple[str, Any]:
    """The innermost part of a config that is not read as it is written, and what it is called."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for name, part in parts:
        if _text_read_back(Config(dict(part=part), format_python_code=False)) is None:
            return _unreadable(part, f'{key}.{name}' if key else str(name))
    return key, value


def write_config(cfg: Config, path: Path) -> None:
    """Writes a config file, whole or not at all.

    Raises:
        DetNASError: See :func:`config_text`.
    """
    write_text(path, config_text(cfg))
