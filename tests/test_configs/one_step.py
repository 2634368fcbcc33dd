"""Cuts a config down so that a step of it takes seconds on a CPU: few and small images; backbones stay as they are."""

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from detnas_mm.engine.config import fit_to_machine
from tests import latency

# Whatever has such a key …
SETTINGS = {
    'fc_out_channels': 32,
    'max_per_img': 20,
    'nms_pre': 20,
    'num_workers': 0,
    'score_thr': 0.0,  # random weights are sure of nothing
}
# … or such a type.
TYPES = {
    'CenterCrop': dict(crop_size=64),
    'RandomResizedCrop': dict(scale=64),
    'RandomResize': dict(scale=[(96, 64), (96, 64)]),
    'Resize': dict(scale=(96, 64)),
    'ResizeEdge': dict(scale=64),
    'RandomSampler': dict(num=16),
}


def cut_down(cfg: Config, work_dir: Path) -> Config:
    """One training iteration with two images and no pre-trained weights; fits a process without a GPU."""
    _walk(cfg._cfg_dict)
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = work_dir.name
    cfg.default_hooks.checkpoint = None
    cfg.train_dataloader.batch_size = 2
    if 'max_iters' in cfg.train_cfg:
        cfg.train_cfg.max_iters = 1
    if 'init_cfg' in cfg.model.backbone:
        cfg.model.backbone.init_cfg = None
    return cfg


def cut_down_search(cfg: Config, checkpoint: Path) -> Config:
    """One generation of two candidates, on two images after four of calibration."""
    cfg.load_from = str(checkpoint)
    latency.provide(cfg, checkpoint.parent)
    cfg.search.strategy.update(population=2, parents=1, mutation=1, crossover=1, random=0)
    cfg.search.budget.generations = 1
    cfg.search.export.top_k = 1
    evaluator = cfg.search.evaluator
    evaluator.dataloader.batch_size = 2
    evaluator.calibration.num_images = 4
    evaluator.calibration.dataloader.batch_size = 2
    return cfg


def _walk(node: Any) -> None:
    if isinstance(node, dict):
        node.update({key: value for key, value in SETTINGS.items() if key in node})
        node.update(TYPES.get(node.get('type'), {}))
        node.pop('persistent_workers', None)
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        _walk(child)


def save_random_weights(cfg: Config, path: Path) -> Path:
    """A checkpoint for the model of a config."""
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(fit_to_machine(cfg).model)
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return path


def train(cfg: Config) -> Runner:
    """Trains it, or searches, as under a train script that hands no job over."""
    runner = Runner.from_cfg(fit_to_machine(cfg))
    runner.train()
    return runner
