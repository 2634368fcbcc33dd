"""Checks a search before any of its candidates is trained."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from mmengine.config import Config

from detnas_mm.config_types import is_other
from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.training.halving import Halving
from detnas_mm.evaluators.training.schedule import Schedule
from detnas_mm.evaluators.training.search_val import check_search_val
from detnas_mm.models.build import build_model, without_memory
from detnas_mm.search import SearchJob
from detnas_mm.spaces import Architecture
from detnas_mm.workers import Workers


def check_search(job: SearchJob, cfg: Mapping[str, Any], halving: Halving | None, workers: Workers) -> None:
    """Checks that the candidates of a search can be trained and evaluated; logs which cannot resume exactly.

    Args:
        job: The search.
        cfg: The searched config, from which candidates are configured.
        halving: Successive halving of its trainings; None without it.
        workers: Workers that run the trainings.

    Raises:
        DetNASError: If the config lacks something or does not fit; names the key.
    """
    missing = [key for key in ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper') if not cfg.get(key)]
    if missing:
        raise DetNASError(
            f'ShortTraining trains candidates by the searched config, which has no {", ".join(missing)}: inherit '
            f'a config that trains a detector.'
        )
    lines = check_search_val(cfg)
    schedule = Schedule.read(cfg)
    if halving is not None:
        halving.check(schedule)
    if is_other(cfg['optim_wrapper'], 'AmpOptimWrapper') and workers.has_gpu() is False:
        raise DetNASError(
            f'optim_wrapper.type is AmpOptimWrapper, which needs a GPU, and {type(workers).__name__} with these '
            f'settings start candidates without one that torch and mmcv can use. Set optim_wrapper.type=OptimWrapper, '
            f'or give search.evaluator.workers a GPU (gpus).'
        )
    size_of(job, cfg, job.space.sample(np.random.default_rng(job.seed)))
    for line in lines:
        job.log(line)
    if schedule.inexact:
        job.log(
            f'Trainings that are killed begin again from the start, since {schedule.inexact}: they cannot be resumed '
            f'exactly.'
        )


def size_of(job: SearchJob, cfg: Mapping[str, Any], arch: Architecture) -> int:
    """Returns the bytes of a candidate's weights; builds its model on the meta device.

    Raises:
        DetNASError: If the space describes no configs, or the model of this one cannot be built; names the candidate.
    """
    own = job.space.configure(cfg, arch)
    text = job.space.describe(arch)
    if own is None:
        raise DetNASError(
            f'{type(job.space).__name__}.configure returns no config for {text}, so it cannot be trained. Choose an '
            f'evaluator that trains no candidates, or a space that configures its architectures.'
        )
    try:
        with without_memory():
            model = build_model(Config(copy.deepcopy(own)))
    except DetNASError as error:
        raise type(error)(f'The candidate {text} cannot be built: {error}') from error
    return sum(value.numel() * value.element_size() for value in model.state_dict().values())
