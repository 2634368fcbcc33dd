#!/usr/bin/env python
"""Measures candidates per minute of four methods of evaluating a generation.

  a   as existing tools do: for every candidate a new data loader, the whole detector in training mode to recalibrate
      BN, mmdet's test loop and metric; with CocoMetric, and with FasterCocoMetric
  b   this package, one candidate at a time: cached images, only the backbone recalibrated, boxes computed in batches
  c   this package, a whole generation: what paths share is computed once; scores are bit-identical to b's (checked)
  d   the same with racing, which learns from the generations before

The timed generations are those of a real evolution: the first (random paths) and a late one (related paths, which share
more and about which racing knows more). All methods run in this process on one thread with the same batches, in turn;
seconds are processor time, which other programs hardly affect. The supernet is trained and the evolution run first,
once per work folder. Methods a and b are timed on a few candidates only.

Example:
  python benchmarks/generation.py     # slim heads: trains 7 minutes, evolves 15, then 4 a round and generation
  python benchmarks/generation.py --config benchmarks/generation/wide.py --generations 1 2     # 256 channels
  python benchmarks/generation.py --val-images 2000 --generations 1 2 --population 20          # the paper's 1 : 10
  python benchmarks/generation.py --config benchmarks/generation/fpn.py --generations 1        # Faster R-CNN
  python benchmarks/generation.py --config benchmarks/generation/digits.py --val-images 2000 --generations 3 8 \
      --population 20 --shares 0.05 0.1 0.25 0.5 --confidence 0.95         # racing on many images
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from common import add_output, table, write_json
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch.nn.modules.batchnorm import _BatchNorm

from detnas_mm.checkpoints import load_checkpoint_file
from detnas_mm.datasets.digits import make_digits
from detnas_mm.engine import run_search
from detnas_mm.engine.config import fit_to_machine
from detnas_mm.evaluators.detection.metrics import available
from detnas_mm.evaluators.one_shot.racing import Racing
from detnas_mm.evaluators.temporary import quiet
from detnas_mm.models import build_model
from detnas_mm.search import LEDGER, Evaluation, Record, SearchJob, read_ledger

HERE = Path(__file__).parent
KEEP = 10  # the parents, which racing must not drop


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', type=Path, default=HERE / 'generation/slim.py', help='[%(default)s]')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/generation'), help='for data and supernets')
    parser.add_argument('--population', type=int, default=50, help='candidates per generation [%(default)s]')
    parser.add_argument('--generations', type=int, nargs='+', default=[1, 10], help='generations to time [1 10]')
    parser.add_argument('--alone', type=int, default=4, help='candidates to time a and b with [%(default)s]')
    parser.add_argument('--rounds', type=int, default=3, help='number of timings [%(default)s]')
    parser.add_argument('--shares', type=float, nargs='+', default=[0.25, 0.5], help='where racing decides [0.25 0.5]')
    parser.add_argument('--confidence', type=float, default=0.99, help='confidence of racing [%(default)s]')
    parser.add_argument(
        '--calibration',
        type=float,
        default=1.0,
        help='share of calibration images before the last decision [%(default)s]',
    )
    parser.add_argument('--train-only', action='store_true', help='only train the supernet')
    parser.add_argument('--val-images', type=int, default=200, help='2000 is the ratio of the paper [%(default)s]')
    add_output(parser, 'generation.json')
    args = parser.parse_args()
    if min(args.rounds, args.alone, *args.generations) < 1 or args.population < args.alone:
        parser.error('--rounds, --alone and --generations must be at least 1, and --population no smaller than --alone')
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
        Runner.from_cfg(fit_to_machine(cfg)).train()
    return checkpoint


class UsualWay:
    """Evaluates candidates one by one with the means of mmdet and mmengine."""

    def __init__(self, model: Any, search: Any, metric: str) -> None:
        self.model, self.evaluator = model, search.evaluator
        self.metric = dict(search.evaluator.metric, type=metric)

    def __call__(self, arch: Any) -> float:
        model = self.model
        model.backbone.set_path(arch)
        model.train()
        for module in model.modules():
            if isinstance(module, _BatchNorm) and module.training:  # the others are frozen
                module.reset_running_stats()
                module.momentum = None
        calibration = self.evaluator.calibration
        loader = Runner.build_dataloader(
            dict(calibration.dataloader, sampler=dict(type='DefaultSampler', shuffle=True), drop_last=False), seed=0
        )
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


def racing(args: argparse.Namespace, keep: int) -> dict[str, Any]:
    """Returns the arguments of racing."""
    return dict(shares=args.shares, confidence=args.confidence, keep=keep, calibration=args.calibration)


def evolution(cfg: Config, model: Any, folder: Path, args: argparse.Namespace) -> list[Record]:
    """Runs a search up to the last timed generation without dropping; all are also evaluated on the shares."""
    cfg = cfg.copy()
    cfg.work_dir = str(folder)
    cfg.search.strategy = dict(type='EvolutionStrategy', population=args.population, parents=KEEP)
    cfg.search.evaluator.racing = racing(args, keep=1_000_000)
    cfg.search.evaluator.chunk_size = 10
    cfg.search.budget = dict(generations=max(args.generations))
    job = SearchJob.from_config(cfg)
    job.prepare()
    run_search(job, model)
    return read_ledger(folder / LEDGER)[1]


def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)
    data = args.work_dir / f'digits128_{args.val_images}'
    print(make_digits(data, image_size=128, num_train=1500, num_search_val=args.val_images, num_test=1,
                      num_cls_train=6000, num_cls_search_val=10, num_cls_test=10))  # fmt: skip
    os.environ['DETNAS_DIGITS'] = str(data.resolve())
    cfg = Config.fromfile(args.config)
    begin = HERE / 'generation' / cfg.get('pretrain', 'pretrain.py')
    pretrained = train(Config.fromfile(begin), args.work_dir / begin.stem)
    checkpoint = train(cfg, args.work_dir / args.config.stem, pretrained)
    if args.train_only:
        return
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = build_model(cfg)
        model.load_state_dict(load_checkpoint_file(checkpoint)['state_dict'])
        usual = build_model(cfg)
        usual.load_state_dict(model.state_dict())
        numbers = args.population, args.val_images, *args.shares, args.calibration
        folder = args.work_dir / '_'.join([args.config.stem, 'evolution', *map(str, numbers)])
        records = evolution(cfg, model, folder, args)
        job = SearchJob.from_config(cfg)
        job.evaluator.setup(job, model)
        outcomes = [measure(number, records, job, usual, args) for number in args.generations]
    write_json(args.out, dict(outcomes=outcomes, settings={key: str(value) for key, value in vars(args).items()}))


def measure(number: int, records: list[Record], job: SearchJob, usual: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Times one generation with all methods; prints and returns the results."""
    evaluator: Any = job.evaluator
    known = [record for record in records if record.generation < number - 1]
    mine = [record for record in records if record.generation == number - 1]
    archs = [job.space.parse(record.arch) for record in mine]
    few = archs[: args.alone]

    def alone() -> list[Evaluation]:
        evaluator.chunk_size = 1
        return list(evaluator.evaluate(few))

    def together() -> list[Evaluation]:
        evaluator.chunk_size = 0
        return list(evaluator.evaluate(archs))

    def raced() -> list[Evaluation]:
        evaluator.racing = Racing(**racing(args, KEEP))
        evaluator.racing.setup(job.objectives)
        evaluator.observe(known)
        try:
            return together()
        finally:
            evaluator.racing = None

    ways = {
        'a  usual way, CocoMetric': (lambda: [UsualWay(usual, job.cfg.search, 'CocoMetric')(a) for a in few], len(few)),
        'a  usual way, FasterCocoMetric': (
            lambda: [UsualWay(usual, job.cfg.search, 'FasterCocoMetric')(a) for a in few], len(few),
        ),
        'b  one at a time': (alone, len(few)),
        'c  a generation together': (together, len(archs)),
        'd  with racing': (raced, len(archs)),
    }  # fmt: skip
    list(evaluator.evaluate(few[:1]))  # fills the cache
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    scores: dict[str, list] = {}
    for turn in range(args.rounds):
        names = list(ways)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.process_time()
            scores[name] = ways[name][0]()
            seconds[name].append((time.process_time() - start) / ways[name][1])
            print(f'generation {number}, round {turn + 1}: {name}: {seconds[name][-1]:.2f} s a candidate', flush=True)
    whole, dropped = scores['c  a generation together'], [e.dropped for e in scores['d  with racing']]
    same = [e.metrics for e in scores['b  one at a time']] == [e.metrics for e in whole[: len(few)]]
    values = [e.metrics['coco/bbox_mAP'] for e in whole]
    best = job.objectives[0].best_first([*known, *mine])[:KEEP]
    kept = not any(reason and record in best for record, reason in zip(mine, dropped, strict=True))
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
    print(f'\ngeneration {number}\n' + table(rows))
    lost = sum(map(bool, dropped))
    print(f"\nb's and c's scores are {'equal to the last bit' if same else 'DIFFERENT'}; {len(set(values))} different "
          f'mAPs from {min(values):.4f} to {max(values):.4f}; racing dropped {lost} of {len(archs)}, '
          f'{"none" if kept else "SOME"} of the ten best so far.\n')  # fmt: skip
    return dict(generation=number, seconds=seconds, rows=rows, equal=same, mAPs=values, dropped=lost, best_kept=kept)


if __name__ == '__main__':
    main()
