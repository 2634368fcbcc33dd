"""What the command-line tools share: reading configs, and making them fit the machine at hand."""

from __future__ import annotations

import argparse
import copy
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine.config import Config, ConfigDict
from mmengine.dist import init_dist, is_main_process
from mmengine.logging import print_log
from mmengine.runner import Runner

from detnas_mm.cli import override
from detnas_mm.compat import cuda_usable, load_checkpoint_file
from detnas_mm.engine.found_structures import measure_found
from detnas_mm.engine.search import LEDGER, SearchPlan, run_search
from detnas_mm.errors import DetNASError, expected_errors
from detnas_mm.export import AS_WRITTEN
from detnas_mm.search import refuse_if_in_use

_HOURS = 3600


def read_config(args: argparse.Namespace) -> Config:
    """Reads the config of parsed arguments, applies the overrides and fits it to the machine."""
    cfg = Config.fromfile(args.config)
    override(cfg, args.cfg_options)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    fit_to_machine(cfg)
    return cfg


def fit_to_machine(cfg: Config) -> None:
    """Lets a config run where there is no GPU or no process group, and keeps long searches from timing out.

    SyncBN becomes BN without a process group or without CUDA; several CPU processes talk by gloo. A search keeps what
    its config said, for the configs that it exports.
    """
    cuda = cuda_usable()
    distributed = cfg.get('launcher', 'none') != 'none'
    if 'search' in cfg:  # what a search exports goes to other machines than the one that searched
        written = {key: copy.deepcopy(cfg[key]) for key in ('model', 'env_cfg') if key in cfg}
        cfg.setdefault(AS_WRITTEN, ConfigDict(written))
    dist_cfg = cfg.setdefault('env_cfg', ConfigDict()).setdefault('dist_cfg', ConfigDict(backend='nccl'))
    dist_cfg.setdefault('timeout', 2 * _HOURS)
    if not (cuda and distributed) and 'model' in cfg:
        replaced = _replace_norm(cfg.model)
        if replaced:
            reason = 'no GPU' if distributed else 'no process group'
            print_log(f'SyncBN becomes BN in {replaced} places, since there is {reason}.', logger='current')
    if distributed and not cuda:
        dist_cfg.backend = 'gloo'
        cfg.model_wrapper_cfg = ConfigDict(
            type='MMDistributedDataParallel', device_ids=None, find_unused_parameters=True, broadcast_buffers=False
        )
    if distributed and not dist.is_initialized() and (not cuda or _restarted()):
        _join_process_group(dist_cfg, cuda)


def _restarted() -> bool:
    """Whether torchrun has started this process in the place of one that died."""
    return int(os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')) > 0


def _join_process_group(dist_cfg: Any, cuda: bool) -> None:
    """Does what mmengine does, which wants a CUDA device and fails after a restart.

    torchrun's ranks meet in a store that outlives them (static rendezvous, torch 2.10): those of a second attempt find
    the addresses of the first one's dead ranks there. So every attempt has its own part of the store.
    """
    if cuda:
        torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
    where: dict[str, Any] = {}
    if os.environ.get('TORCHELASTIC_USE_AGENT_STORE') == 'True':
        shared = dist.TCPStore(os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT']), is_master=False)
        attempt = os.environ['TORCHELASTIC_RESTART_COUNT']
        where = dict(
            store=dist.PrefixStore(f'attempt_{attempt}', shared),
            rank=int(os.environ['RANK']),
            world_size=int(os.environ['WORLD_SIZE']),
        )
    dist.init_process_group(dist_cfg.backend, timeout=timedelta(seconds=dist_cfg.timeout), **where)


def _join_without_runner(cfg: Config) -> None:
    """Where there are GPUs a Runner makes the process group; a search without one needs it, to know who writes."""
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none' or dist.is_initialized():
        return
    dist_cfg = ConfigDict(cfg.env_cfg.dist_cfg, backend='gloo')  # it computes on no GPU
    if launcher == 'pytorch':
        _join_process_group(dist_cfg, cuda=False)
    else:
        init_dist(launcher, **dist_cfg)


def _replace_norm(node: Any) -> int:
    """Turns SyncBN into BN everywhere below a config node; returns how often."""
    found = [one for one in _nodes(node) if one.get('type') in ('SyncBN', 'MMSyncBN', 'NaiveSyncBN')]
    for one in found:
        one['type'] = 'BN'
    return len(found)


def check_checkpoint(path: str | None, trust: bool) -> None:
    """Refuses a missing file, and one that holds more than plain tensors unless it is trusted.

    Raises:
        SystemExit: With one sentence.
    """
    if path is None or '://' in path:
        return
    try:
        load_checkpoint_file(path, trust)
    except DetNASError as error:
        raise SystemExit(f'error: {error}') from error


def as_search_job(cfg: Config, checkpoint: str | None, seed: int | None = None) -> Config:
    """Turns a config with a ``search`` section into a job that searches and trains nothing.

    Args:
        cfg: The supernet's training config with a ``search`` section, or a search-only one.
        checkpoint: The trained supernet; None if ``load_from`` is in the config.
        seed: Replaces ``search.seed``.

    Returns:
        The same config, changed.

    Raises:
        SystemExit: With one sentence, if the section is missing or does not fit.
    """
    if 'search' not in cfg:
        raise SystemExit(
            f'error: {cfg.filename} has no `search` section. Inherit one of configs/_base_/search/, or take a config '
            f'with search in its name.'
        )
    if seed is not None:
        cfg.search.seed = seed
    plan = _plan(cfg)
    if not plan.evaluator.needs_model:
        if checkpoint:
            print_log(f'{type(plan.evaluator).__name__} needs no model: {checkpoint} is not read.', logger='current')
        return cfg
    cfg.load_from = checkpoint or cfg.get('load_from')
    if not cfg.load_from:
        raise SystemExit(
            f'error: {type(plan.evaluator).__name__} needs a trained supernet. Give its checkpoint: '
            f'python tools/search.py {cfg.filename} CHECKPOINT'
        )
    cfg.resume = False  # mmengine's resume would drop load_from and search on random weights
    if cfg.get('train_cfg', {}).get('max_epochs') != 0:
        export = cfg.search.setdefault('export', ConfigDict())
        training = {k: cfg.get(k) for k in ('train_cfg', 'param_scheduler', 'default_hooks')}
        export.setdefault('retrain', copy.deepcopy(training))
        cfg.train_cfg = ConfigDict(type='EpochBasedTrainLoop', max_epochs=0)
    cfg.param_scheduler = []
    cfg.setdefault('default_hooks', ConfigDict()).checkpoint = None
    for kind in ('val', 'test'):
        for part in ('dataloader', 'evaluator', 'cfg'):
            cfg[f'{kind}_{part}'] = None
    hooks = list(cfg.get('custom_hooks') or [])
    if not any(map(_is_search_hook, hooks)):
        hooks.append(dict(type='detnas_mm.EvolutionSearchHook'))
    cfg.custom_hooks = hooks
    return cfg


def _plan(cfg: Config) -> SearchPlan:
    try:
        plan = SearchPlan(cfg.search)
        plan.rehearse()
        return plan
    except DetNASError as error:
        raise SystemExit(f'error: {error}') from error


def _is_search_hook(hook: Any) -> bool:
    return str(hook['type']).endswith('EvolutionSearchHook')


def run(cfg: Config, trust: bool = False) -> Any:
    """Trains, or searches where the config's evaluator needs no model.

    Raises:
        SystemExit: With one sentence, if a checkpoint cannot be loaded or the work dir cannot be made.
        LedgerError: If another search writes into the work dir.
    """
    if cfg.get('work_dir'):
        check_work_dir(Path(cfg.work_dir))
    if 'search' in cfg:
        refuse_second_search(cfg)
        if not _plan(cfg).evaluator.needs_model:
            check_data(cfg, ['search'])
            _join_without_runner(cfg)
            best = run_search(cfg, log=print if is_main_process() else lambda text: None)
            if is_main_process():
                measure_found(cfg)
            return best
        if not any(_is_search_hook(hook) for hook in cfg.get('custom_hooks') or ()):
            raise SystemExit(
                f'error: {cfg.filename} has a `search` section, but no hook that runs it. To search in a trained '
                f'supernet: python tools/search.py {cfg.filename} CHECKPOINT. To search right after training, add '
                f"dict(type='detnas_mm.EvolutionSearchHook') to custom_hooks."
            )
    check_inputs(cfg, trust)
    return build_runner(cfg).train()


def build_runner(cfg: Config) -> Runner:
    """Builds the Runner of a config.

    Raises:
        DetNASError: If a constructor, of whatever package, raises a ValueError.
    """
    with expected_errors():
        return Runner.from_cfg(cfg)


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


def refuse_second_search(cfg: Config) -> None:
    """Looks whether another search is at work in the folder, before models and data are loaded.

    Of several processes only the first looks, and only where torchrun says which it is: it may be the one that writes.
    The ledger itself looks again.

    Raises:
        LedgerError: If one is; names it.
    """
    first = cfg.get('launcher', 'none') == 'none' or os.environ.get('RANK') == '0'
    if first and cfg.get('work_dir'):
        refuse_if_in_use(Path(cfg.work_dir) / LEDGER)


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
    for node in _nodes(cfg.get('model', {})):
        if node.get('type') == 'Pretrained':
            check_checkpoint(node.get('checkpoint'), trust)
    check_data(cfg, [*(f'{split}_dataloader' for split in splits), 'search'])


def check_data(cfg: Config, keys: Sequence[str]) -> None:
    """Checks that the folders and annotations are there which parts of a config name.

    Raises:
        SystemExit: With one sentence.
    """
    for key in keys:
        for node in _nodes(cfg.get(key)):
            folder = node.get('data_root')
            annotations = node.get('ann_file')
            if annotations and '://' not in f'{folder}{annotations}':
                file = Path(folder or '', annotations)
                if (folder is None or Path(folder).is_dir()) and not file.exists():
                    raise SystemExit(f'error: there is no file {file}, where {key} looks for annotations.')
            if folder and '://' not in folder and not Path(folder).is_dir():
                raise SystemExit(
                    f'error: there is no folder {folder}, where {key} looks for {node.get("type", "data")}. Digits is '
                    f'made by: python tools/dataset_converters/make_digits.py; where ImageNet, COCO and VOC go stands '
                    f'in configs/detnas/README.md.'
                )


def _nodes(node: Any) -> Iterator[dict]:
    """All dicts in a part of a config, itself included."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        yield from _nodes(child)
