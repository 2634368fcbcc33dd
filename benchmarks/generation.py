#!/usr/bin/env python
"""Candidates a minute, four ways in one run: what evaluating a generation together is worth.

  a   the usual way of existing tools: for every candidate a new data loader, the whole detector run in training mode
      to recalibrate BN, mmdet's test loop and metric; with CocoMetric, and with FasterCocoMetric
  b   one candidate at a time by this package: images kept, the backbone alone recalibrated, boxes made in batches
  c   a generation together: what paths share is computed once; scores equal to b's to the last bit (checked)
  d   the same with racing at 95 % on a quarter, as it goes from the second generation on

All run on one thread, with the same batches, interleaved. The supernet is trained first (minutes, once a work
folder). A rival that takes candidates one by one is timed on a few of them.

Example:
  python benchmarks/generation.py     # slim heads: trains 7 minutes, then 10 a round beside other work
  python benchmarks/generation.py --config benchmarks/generation/wide.py    # 256 channels: not timed yet
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import add_output, table, write_json
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch.nn.modules.batchnorm import _BatchNorm

from detnas_mm.compat import load_checkpoint_file
from detnas_mm.datasets.digits import make_digits
from detnas_mm.engine import SearchPlan
from detnas_mm.engine.launch import fit_to_machine
from detnas_mm.evaluators.metrics import available, quiet
from detnas_mm.evaluators.racing import Racing
from detnas_mm.models import build_model
from detnas_mm.search import Evaluation, Record

HERE = Path(__file__).parent


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', type=Path, default=HERE / 'generation/slim.py', help='[%(default)s]')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/generation'), help='set and supernets')
    parser.add_argument('--population', type=int, default=50, help='candidates of a generation [%(default)s]')
    parser.add_argument('--alone', type=int, default=4, help='candidates that a and b are timed on [%(default)s]')
    parser.add_argument('--rounds', type=int, default=3, help='how often everything is timed [%(default)s]')
    parser.add_argument('--train-only', action='store_true', help='make the supernet, and end')
    parser.add_argument('--val-images', type=int, default=200, help='2000 for the ratio of the paper [%(default)s]')
    add_output(parser, 'generation.json')
    args = parser.parse_args()
    if min(args.rounds, args.alone) < 1 or args.population < args.alone:
        parser.error('--rounds and --alone must be at least 1, and --population no smaller than --alone')
    return args


def train(cfg: Config, folder: Path, pretrained: Path | None = None) -> Path:
    """Trains a config's supernet once; returns its checkpoint."""
    cfg = cfg.copy()
    steps = cfg.train_cfg.max_iters
    checkpoint = folder / f'iter_{steps}.pth'
    if not checkpoint.exists():
        cfg.work_dir, cfg.log_level = str(folder), 'WARNING'
        if pretrained is not None:
            cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(pretrained), prefix='backbone.')
        print(f'{folder.name}: training the supernet for {steps} steps …', flush=True)
        Runner.from_cfg(cfg).train()
    return checkpoint


def read(path: Path) -> Config:
    """A config that fits this machine."""
    cfg = Config.fromfile(path)
    cfg.launcher = 'none'
    fit_to_machine(cfg)
    return cfg


class UsualWay:
    """Candidates one by one, by mmdet's and mmengine's own means."""

    def __init__(self, model: Any, search: Any, metric: str) -> None:
        self.model, self.evaluator = model, search.evaluator
        self.metric = dict(search.evaluator.metric, type=metric)

    def __call__(self, arch: Any) -> float:
        model = self.model
        model.backbone.set_path(arch)
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.reset_running_stats()
                module.momentum = None
        calibration = self.evaluator.calibration
        loader = Runner.build_dataloader(
            dict(calibration.dataloader, sampler=dict(type='DefaultSampler', shuffle=True), drop_last=False), seed=0
        )
        model.train()
        with torch.no_grad(), quiet():
            for number, data in enumerate(loader):
                if number * calibration.dataloader.batch_size >= calibration.num_images:
                    break
                model(**model.data_preprocessor(data, True), mode='loss')
            model.eval()
            loader = Runner.build_dataloader(
                dict(self.evaluator.dataloader, sampler=dict(type='DefaultSampler', shuffle=False)), seed=0
            )
            metric = Evaluator(available(self.metric))
            metric.dataset_meta = loader.dataset.metainfo
            for data in loader:
                metric.process(data_samples=model.test_step(data), data_batch=data)
            score = metric.evaluate(len(loader.dataset)).get('coco/bbox_mAP', 0.0)
        model.backbone.set_path(None)
        return score


def past(plan: SearchPlan, evaluations: list[Evaluation], archs: list) -> list[Record]:
    """Rows of a first generation, for racing to learn from."""
    return [
        Record(i, 0, a.id, plan.space.describe(a), 'random', (), e.status, e.failure, e.metrics, {}, images=e.images,
               partial=e.partial)
        for i, (a, e) in enumerate(zip(archs, evaluations, strict=True))
    ]  # fmt: skip


def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)
    data = args.work_dir / f'digits128_{args.val_images}'
    print(make_digits(data, image_size=128, num_train=1500, num_search_val=args.val_images, num_test=1,
                      num_cls_train=6000, num_cls_search_val=10, num_cls_test=10))  # fmt: skip
    os.environ['DETNAS_DIGITS'] = str(data.resolve())
    cfg = read(args.config)
    pretrained = train(read(HERE / 'generation/pretrain.py'), args.work_dir / 'pretrain')
    checkpoint = train(cfg, args.work_dir / args.config.stem, pretrained)
    if args.train_only:
        return
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = build_model(cfg)
        model.load_state_dict(load_checkpoint_file(checkpoint)['state_dict'])
        usual = build_model(cfg)
        usual.load_state_dict(model.state_dict())
        plan = SearchPlan(cfg.search)
        evaluator: Any = plan.evaluator
        evaluator.setup(plan.space, model, 0)
        rng = np.random.default_rng(0)
        first, archs = plan.space.sample_many(rng, args.population), plan.space.sample_many(rng, args.population)
        few = archs[: args.alone]
        racing = Racing(shares=[0.25], confidence=0.95, keep=10)
        evaluator.racing = racing
        evaluator.observe([], plan.objectives)
        known = past(plan, list(evaluator.evaluate(first)), first)  # also fills the cache
        evaluator.racing = None
        scores: dict[str, list] = {}

        def alone() -> list[Evaluation]:
            evaluator.chunk_size = 1
            return list(evaluator.evaluate(few))

        def together() -> list[Evaluation]:
            evaluator.chunk_size = 0
            return list(evaluator.evaluate(archs))

        def raced() -> list[Evaluation]:
            evaluator.racing = racing
            evaluator.observe(known, plan.objectives)
            try:
                return together()
            finally:
                evaluator.racing = None

        ways = {
            'a  usual way, CocoMetric': (lambda: [UsualWay(usual, cfg.search, 'CocoMetric')(a) for a in few], len(few)),
            'a  usual way, FasterCocoMetric': (
                lambda: [UsualWay(usual, cfg.search, 'FasterCocoMetric')(a) for a in few], len(few),
            ),
            'b  one at a time': (alone, len(few)),
            'c  a generation together': (together, len(archs)),
            'd  with racing': (raced, len(archs)),
        }  # fmt: skip
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(args.rounds):
            names = list(ways)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                start = time.perf_counter()
                scores[name] = ways[name][0]()
                seconds[name].append((time.perf_counter() - start) / ways[name][1])
                print(f'round {number + 1}: {name}: {seconds[name][-1]:.2f} s a candidate', flush=True)
    whole = scores['c  a generation together']
    same = [e.metrics for e in scores['b  one at a time']] == [e.metrics for e in whole[: len(few)]]
    values = [e.metrics['coco/bbox_mAP'] for e in whole]
    dropped = sum(e.dropped is not None for e in scores['d  with racing'])
    rival = statistics.median(seconds['a  usual way, CocoMetric'])
    rows = [
        {
            'way': name,
            's a candidate': statistics.median(taken),
            'candidates a minute': 60 / statistics.median(taken),
            'times as fast as a': rival / statistics.median(taken),
        }
        for name, taken in seconds.items()
    ]
    print('\n' + table(rows))
    print(f"\nb's and c's scores are {'equal to the last bit' if same else 'DIFFERENT'}; {len(set(values))} different "
          f'mAPs from {min(values):.4f} to {max(values):.4f}; racing dropped {dropped} of {len(archs)}.')  # fmt: skip
    write_json(
        args.out,
        dict(seconds=seconds, rows=rows, equal=same, mAPs=values, dropped=dropped, config=args.config.name,
             val_images=args.val_images),
    )  # fmt: skip


if __name__ == '__main__':
    main()
