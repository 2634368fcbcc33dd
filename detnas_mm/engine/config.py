"""Reading configs, making them fit the machine at hand, and writing them. Nothing here starts anything."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from detnas_mm.cli import override
from detnas_mm.compat import cuda_usable
from detnas_mm.config_types import is_other

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
