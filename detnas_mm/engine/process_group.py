"""Joins the process group that a launcher has prepared."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from mmengine.config import Config, ConfigDict
from mmengine.dist import init_dist

from detnas_mm.compat import cuda_usable


def join_process_group(cfg: Config, runner: bool = True) -> None:
    """Joins the process group if no Runner does, or mmengine's cannot: on CPUs and after a restart by torchrun.

    Args:
        cfg: The config, as :func:`~detnas_mm.engine.config.fit_to_machine` returns it.
        runner: Whether a Runner follows; a search without one uses no GPU.
    """
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none' or dist.is_initialized():
        return
    cuda = runner and cuda_usable()
    dist_cfg = cfg.env_cfg.dist_cfg if runner else ConfigDict(cfg.env_cfg.dist_cfg, backend='gloo')
    restarted = int(os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')) > 0
    if runner:
        if not cuda or restarted:
            _join(dist_cfg, cuda)
    elif launcher == 'pytorch':
        _join(dist_cfg, cuda)
    else:
        init_dist(launcher, **dist_cfg)


def _join(dist_cfg: Any, cuda: bool) -> None:
    """Initialises the process group like mmengine, which needs a CUDA device and fails after a restart.

    torchrun's ranks meet in a store that outlives them (static rendezvous, torch 2.10): those of a second attempt find
    the addresses of the first attempt's dead ranks there. So every attempt uses its own part of the store.
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
