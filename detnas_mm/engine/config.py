"""Reads configs, adapts them to the machine, and writes them. Starts nothing."""

from __future__ import annotations

import argparse
import copy
import inspect
import logging
import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger, print_log
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings
from torch.utils.data import DataLoader

from detnas_mm.cli import override, read_file
from detnas_mm.compat import cuda_usable
from detnas_mm.config_types import config_text, is_other, nodes
from detnas_mm.errors import DetNASError, library_errors
from detnas_mm.evaluators.loaders import fitted_loader
from detnas_mm.files import write_text
from detnas_mm.search.text import counted
from detnas_mm.terminal import follow

_HOURS = 3600


def read_config(args: argparse.Namespace) -> Config:
    """Reads the config of parsed arguments as written, with ``--cfg-options`` applied.

    Sets ``launcher`` and ``work_dir``, and imports modules that an option adds to ``custom_imports``.

    Args:
        args: Arguments parsed by :func:`detnas_mm.cli.parser`.

    Raises:
        DetNASError: If the file cannot be read, a module cannot be imported, or an option is misspelt.
    """
    follow(MMLogger.get_current_instance())
    cfg = read_file(args.config)
    _check_names(cfg, args.cfg_options or {})
    override(cfg, args.cfg_options)
    if any(key.partition('.')[0] == 'custom_imports' for key in args.cfg_options or ()):
        with library_errors('--cfg-options custom_imports'):  # mmengine has imported those of the file
            import_modules_from_strings(**cfg.custom_imports)
    cfg.launcher = args.launcher
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
    return cfg


#: Top-level keys that are read: by mmengine's Runner and its builders, and by the tools of this package.
_READ = (
    *(name for name in inspect.signature(Runner.__init__).parameters if name not in ('self', 'cfg')),
    'runner_type', 'model_wrapper_cfg', 'custom_imports', 'find_unused_parameters', 'activation_checkpointing',
    'efficient_conv_bn_eval', 'compile', 'search',
)  # fmt: skip


def _check_names(cfg: Config, options: Mapping[str, Any]) -> None:
    """Raises for options whose names nearly match a known key, and warns about such names in the file.

    Other unknown names are allowed: a config may have variables of its own.

    Args:
        cfg: The config as in its file.
        options: Options to merge into it.

    Raises:
        DetNASError: If an option is misspelt. The message names it.
    """
    for name in cfg:
        near = [] if name in _READ else get_close_matches(name, _READ, 1, cutoff=0.82)
        if near:
            _warn(f'{cfg.filename}: nothing reads {name}; did you mean {near[0]}?')
    for option in options:
        *path, name = option.split('.')
        node: Any = cfg._cfg_dict
        for key in path:
            node = node.get(key) if isinstance(node, Mapping) else None
        if not path and name not in cfg and name not in _READ:
            node = dict.fromkeys(_READ)
        if path and path[0] not in cfg and path[0] not in _READ:
            node, name = dict.fromkeys(_READ), path[0]
        if not isinstance(node, Mapping) or name in node or name.startswith('_'):
            continue
        near = get_close_matches(name, map(str, node), 1, cutoff=0.82)
        before = f'{".".join(path)}.' if path and name != path[0] else ''
        if near and not before:
            raise DetNASError(f'--cfg-options {option}: nothing reads {name}; did you mean {near[0]}?')
        if near:
            _warn(f'--cfg-options {option}: {before}{name} is new, and there is {before}{near[0]}: did you mean that?')


def _warn(text: str) -> None:
    if os.environ.get('RANK', '0') == '0':
        print_log(text, logger='current', level=logging.WARNING)


def fit_to_machine(cfg: Config) -> Config:
    """Returns a copy of a config that runs on this machine, also without GPU or process group.

    SyncBN is replaced by BN without a process group or without CUDA; several CPU processes communicate by gloo. The
    timeout of collective operations is set to two hours, since a rank may wait that long for another one's evaluation.
    Dataloaders without workers lose the settings of workers.

    Raises:
        DetNASError: If a dataloader has unknown settings.
    """
    out = copy.deepcopy(cfg)
    cuda = cuda_usable()
    distributed = out.get('launcher', 'none') != 'none'
    dist_cfg = out.setdefault('env_cfg', ConfigDict()).setdefault('dist_cfg', ConfigDict(backend='nccl'))
    dist_cfg.setdefault('timeout', 2 * _HOURS)
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if out.get(key) is not None and not isinstance(out[key], DataLoader):
            out[key] = fitted_loader(key, out[key])
    for key, value in (out.get('train_cfg') or {}).items():  # further loaders of a loop
        if key.endswith('_dataloader') and isinstance(value, Mapping):
            out.train_cfg[key] = fitted_loader(f'train_cfg.{key}', value)
    if not (cuda and distributed) and 'model' in out:
        replaced = _replace_norm(out.model)
        if replaced:
            reason = 'no GPU' if distributed else 'single process'
            layers = counted(replaced, 'layer')
            print_log(f'Replaced SyncBN by BN in {layers} of the config: {reason}.', logger='current')
    if distributed and not cuda:
        dist_cfg.backend = 'gloo'
        out.model_wrapper_cfg = ConfigDict(
            type='MMDistributedDataParallel', device_ids=None, find_unused_parameters=True, broadcast_buffers=False
        )
    return out


def _replace_norm(node: Any) -> int:
    """Replaces SyncBN by BN everywhere below a config node; returns the number of replacements."""
    found = [one for one in nodes(node) if is_other(one, 'SyncBN')]
    for one in found:
        one['type'] = 'BN'
    return len(found)


def write_config(cfg: Config, path: Path) -> None:
    """Writes a config file atomically.

    Raises:
        DetNASError: See :func:`config_text`.
    """
    write_text(path, config_text(cfg))
