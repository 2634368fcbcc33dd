#!/usr/bin/env python
"""All of DetNAS on Digits: supernet, search, the found net beside two others. Started by tools/quickstart.sh."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

ROOT = Path(__file__).resolve().parent.parent
SPACE = dict(stem=16, channels=(32, 64, 128, 256), blocks=(1, 1, 2, 1))
SMALLEST_NET = '0|0|00|0'  # all 3x3


@dataclass(frozen=True)
class Size:
    """How long everything takes: optimiser steps of each training, size of the search."""

    supernet_cls: int = 1200
    supernet_det: int = 1200
    net_cls: int = 800
    net_det: int = 1000
    population: int = 20
    generations: int = 4
    digits: tuple[tuple[str, int], ...] = ()


SMALLEST = Size(
    60, 120, 30, 80, 4, 2,
    digits=(('num_train', 300), ('num_search_val', 60), ('num_test', 60), ('num_cls_train', 600),
            ('num_cls_search_val', 100), ('num_cls_test', 100)),
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What one run of the quickstart consists of."""

    out: str
    detector: str
    seed: int
    size: Size

    @property
    def folder(self) -> Path:
        return Path(self.out)

    @property
    def digits(self) -> Path:
        return self.folder / 'digits'


terminal = sys.stdout


def say(text: str) -> None:
    print(f'[{time.strftime("%H:%M:%S")}] {text}', file=terminal, flush=True)


# -- one step: a config, run once, resumed or reused after ----------------------------------------------------------


def load(plan: Plan, name: str, changes: dict[str, Any]) -> Any:
    """A Digits config with changes, fit to this machine."""
    from mmengine.config import Config

    from detnas_mm.engine.launch import fit_to_machine

    os.environ['DETNAS_DIGITS'] = str(plan.digits)
    cfg = Config.fromfile(ROOT / 'configs' / 'digits' / f'{name}.py')
    cfg.merge_from_dict(dict(changes, **{'randomness.seed': plan.seed, 'default_hooks.logger.interval': 200}))
    for hook in cfg.get('custom_hooks', ()):
        if hook['type'].endswith('PathSamplingHook'):
            hook['seed'] = plan.seed
    cfg.launcher = 'none'
    fit_to_machine(cfg)
    return cfg


def begin_step(plan: Plan, step: str, cfg: Any, init_cfg: dict | None) -> Path:
    """The folder of a step; emptied if it was made by another config, from other images or other weights."""
    digest = hashlib.sha256(repr(cfg.to_dict()).encode())
    inputs = [plan.digits / 'digits.json', *([init_cfg['checkpoint']] if init_cfg and 'checkpoint' in init_cfg else [])]
    for path in inputs:
        digest.update(Path(path).read_bytes())
    folder = plan.folder / step
    stamp = folder / 'made_from.sha256'
    if folder.exists() and not (stamp.exists() and stamp.read_text() == digest.hexdigest()):
        say(f'{step}: its settings or what it starts from have changed; begun anew')
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stamp.write_text(digest.hexdigest())
    return folder


class Progress(Hook):
    """Says every quarter how long a training still takes."""

    def __init__(self, step: str) -> None:
        self.step = step

    def before_train(self, runner: Runner) -> None:
        self.begin, self.first = time.perf_counter(), runner.iter

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        done, total = runner.iter + 1, runner.max_iters
        if done < total and done % max(total // 4, 1) == 0:
            left = (time.perf_counter() - self.begin) / (done - self.first) * (total - done)
            say(f'{self.step}: {done}/{total} steps, loss {float(outputs["loss"]):.2f}, {left / 60:.1f} min left')


def train(plan: Plan, step: str, name: str, changes: dict[str, Any], steps: int) -> tuple[Path, float | None]:
    """Trains a config; returns its last checkpoint and, where it has a test set, the test score."""
    cfg = load(plan, name, dict(changes, **{'train_cfg.max_iters': steps}))
    folder = begin_step(plan, step, cfg, cfg.model.backbone.get('init_cfg'))
    done = folder / 'done.json'
    checkpoint = folder / f'iter_{steps}.pth'
    if done.exists() and checkpoint.exists():
        say(f'{step}: done before, reused')
        return checkpoint, json.loads(done.read_text())['score']
    cfg.work_dir = str(folder)
    cfg.resume = (folder / 'last_checkpoint').exists()
    cfg.log_level = 'WARNING'
    begin = time.perf_counter()
    say(f'{step}: {"resumed" if cfg.resume else f"training for {steps} steps"} …')
    cfg.experiment_name = f'{step}-{os.getpid()}-{time.time_ns()}'
    runner = Runner.from_cfg(cfg)
    runner.register_hook(Progress(step), priority='LOWEST')
    runner.train()
    score = None
    if cfg.get('test_dataloader'):
        metrics = runner.test()
        # COCO's metric returns nothing at all where there are no detections.
        score = next((v for k, v in metrics.items() if k in ('coco/bbox_mAP', 'accuracy/top1')), 0.0)
    done.write_text(json.dumps(dict(score=score)))
    say(f'{step}: {(time.perf_counter() - begin) / 60:.1f} min' + ('' if score is None else f', test {score:.3f}'))
    return checkpoint, score


def backbone_from(checkpoint: Path) -> dict[str, Any]:
    """Changes that start a backbone from a pre-trained classifier."""
    init = dict(type='Pretrained', checkpoint=str(checkpoint), prefix='backbone.')
    return {f'model.backbone.init_cfg.{key}': value for key, value in init.items()}


# -- the two lanes, side by side ------------------------------------------------------------------------------------


def begin_lane(plan: Plan) -> None:
    """What a process starts with: one thread (two such processes beat one with two threads), and a log file.

    The libraries below talk a lot; that goes to the file, and what :func:`say` says to the terminal.
    """
    global terminal
    import warnings

    import torch

    from detnas_mm.evaluators.metric_workers import end_with_parent

    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    end_with_parent()
    terminal = os.fdopen(os.dup(1), 'w')
    log = os.open(plan.folder / 'log.txt', os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(log, stream)


def train_net(plan: Plan, label: str, arch: str) -> dict[str, Any]:
    """Pre-trains and fine-tunes a fixed net, and tests it."""
    changes = {'model.backbone.arch': arch}
    pretrained, accuracy = train(plan, f'{label}_cls', 'detnas-digits_net_cls', changes, plan.size.net_cls)
    name = f'detnas-digits_net_{plan.detector}'
    checkpoint, score = train(
        plan, f'{label}_{plan.detector}', name, changes | backbone_from(pretrained), plan.size.net_det
    )
    return dict(label=label, arch=arch, test_mAP=score, accuracy=accuracy, checkpoint=str(checkpoint))


def supernet_and_search(plan: Plan) -> dict[str, Any]:
    """Steps 1–3; returns the found path, a random one of the same MACs, and the fitness of both and of all-3x3."""
    pretrained, _ = train(plan, 'supernet_cls', 'detnas-digits_supernet_cls', {}, plan.size.supernet_cls)
    supernet, _ = train(
        plan, f'supernet_{plan.detector}', f'detnas-digits_supernet_{plan.detector}', backbone_from(pretrained),
        plan.size.supernet_det,
    )  # fmt: skip
    return search(plan, supernet)


def search(plan: Plan, supernet: Path) -> dict[str, Any]:
    from mmengine.registry import DefaultScope
    from mmengine.runner import load_checkpoint

    from detnas_mm.engine import SearchPlan
    from detnas_mm.engine.launch import as_search_job
    from detnas_mm.engine.search import run_search
    from detnas_mm.models import build_model

    size = plan.size
    changes = {
        'search.strategy.population': size.population,
        'search.strategy.mutation': size.population // 2,
        'search.strategy.crossover': size.population - size.population // 2,
        'search.budget.generations': size.generations,
    }
    if size == SMALLEST:  # few images to calibrate on, and scores of hardly trained nets
        part = 'rcnn.' if plan.detector == 'fpn' else ''
        changes |= {'search.evaluator.calibration.num_images': 40, f'model.test_cfg.{part}score_thr': 0.0}
    cfg = as_search_job(load(plan, f'detnas-digits_search_{plan.detector}', changes), str(supernet), plan.seed)
    cfg.work_dir = str(begin_step(plan, f'search_{plan.detector}', cfg, dict(checkpoint=supernet)))
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = build_model(cfg)
        load_checkpoint(model, str(supernet), map_location='cpu')
        say(f'search: {size.generations} generations of {size.population} …')
        best = run_search(cfg, model, say)[0]
        searcher = SearchPlan(cfg.search)
        searcher.evaluator.setup(searcher.space, model, plan.seed)
        found = searcher.space.parse(best.arch)
        peer = random_peer(searcher.space, found, plan.seed)
        paths = dict(found=found, random=peer, smallest=searcher.space.parse(SMALLEST_NET))
        scores = searcher.evaluator.evaluate(list(paths.values()))
        metric = searcher.objectives[0].name
        return {
            label: dict(arch=searcher.space.describe(path), fitness=score.metrics.get(metric))
            for (label, path), score in zip(paths.items(), scores)
        }


def random_peer(space: Any, found: Any, seed: int) -> Any:
    """A random path whose MACs are within 2 % of the found one's."""
    import numpy as np

    from detnas_mm.cost import MacsTable

    table = MacsTable(space, (96, 96))
    wanted = table.total(found)
    rng = np.random.default_rng([seed, 2])
    for path in space.sample_many(rng, 100_000):
        if path != found and abs(table.total(path) - wanted) <= 0.02 * wanted:
            return path
    raise RuntimeError(f'no path has the MACs of {space.describe(found)} within 2 %')


# -- the end --------------------------------------------------------------------------------------------------------


def picture(plan: Plan, net: dict[str, Any]) -> Path:
    """Draws the found net's detections on test scenes; returns the picture's path."""
    from detnas_mm.visualization import picture_detections

    cfg = load(plan, f'detnas-digits_net_{plan.detector}', {'model.backbone.arch': net['arch']})
    title = f'{net["arch"]}, test mAP {net["test_mAP"]:.3f}'
    return picture_detections(cfg, net['checkpoint'], plan.folder / 'detections.png', title)


def report(plan: Plan, nets: dict[str, dict[str, Any]], image: Path, minutes: float) -> None:
    from detnas_mm.cost import MacsTable, ParamsTable
    from detnas_mm.spaces import DetNASSpace

    space = DetNASSpace(SPACE)
    macs, params = MacsTable(space, (96, 96)), ParamsTable(space)
    titles = dict(found='found by the search', random='random, same MACs ±2 %', smallest='all 3x3')
    lines = [f'{"net":24}{"architecture":15}{"MACs":>11}{"params":>9}{"search fitness":>16}{"test mAP":>10}']
    for label, title in titles.items():
        net = nets[label]
        arch = space.parse(net['arch'])
        net |= dict(macs=macs.total(arch), params=params.total(arch))
        fitness = '–' if net['fitness'] is None else f'{net["fitness"]:.4f}'
        lines.append(
            f'{title:24}{net["arch"]:15}{net["macs"]:>11,}{net["params"]:>9,}{fitness:>16}{net["test_mAP"]:>10.3f}'
        )
    result = dict(plan=asdict(plan), nets=nets, minutes=minutes)
    (plan.folder / 'result.json').write_text(json.dumps(result, indent=2) + '\n')
    searched = plan.folder / f'search_{plan.detector}'
    config = ROOT / 'configs' / 'digits' / f'detnas-digits_net_{plan.detector}.py'
    print('\n' + '\n'.join(lines))
    print('MACs: multiply-adds of the backbone at 96x96. One seed: not evidence that one net is better than another.\n')
    print(f'{minutes:.1f} minutes. What there is now:')
    for what, path in [
        ('the set', plan.digits),
        ('supernet', plan.folder / f'supernet_{plan.detector}'),
        ('search: ledger, best nets, progress', searched),
        ('progress of the search', searched / 'progress.png'),
        ('found net, trained', nets['found']['checkpoint']),
        ('random net, trained', nets['random']['checkpoint']),
        ('all-3x3 net, trained', nets['smallest']['checkpoint']),
        ('detections of the found net', image),
        ('all numbers', plan.folder / 'result.json'),
    ]:
        print(f'  {what:36}{path}')
    print('\nNext, test the found net with the test script that any mmdet project has:')
    print(
        f'  DETNAS_DIGITS={plan.digits} {sys.executable} {ROOT / "tools" / "test.py"} {config} '
        f"{nets['found']['checkpoint']} --cfg-options model.backbone.arch='{nets['found']['arch']}'"
    )


def parse_args() -> Plan:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', default='work_dirs/quickstart', help='folder for everything; default: %(default)s')
    parser.add_argument('--detector', choices=['retinanet', 'fpn'], default='retinanet', help='default: %(default)s')
    parser.add_argument('--seed', type=int, default=0, help='fixes everything; default: %(default)s')
    parser.add_argument('--smallest', action='store_true', help='a few steps of everything, to see that it runs')
    args = parser.parse_args()
    name = ('smallest_' if args.smallest else '') + f'{args.detector}_seed{args.seed}'
    out = Path(args.out).resolve() / name
    return Plan(str(out), args.detector, args.seed, SMALLEST if args.smallest else Size())


def main() -> None:
    plan = parse_args()
    from detnas_mm.datasets.digits import make_digits

    start = time.perf_counter()
    plan.folder.mkdir(parents=True, exist_ok=True)
    say(str(make_digits(plan.digits, seed=plan.seed, overwrite=True, **dict(plan.size.digits))))
    say('Two lanes, one thread each. Lane 1: supernet and search. Lane 2: the all-3x3 net.')
    say(f'What the libraries have to say goes to {plan.folder / "log.txt"}.')
    with ProcessPoolExecutor(2, get_context('spawn'), begin_lane, (plan,)) as pool:
        searched = pool.submit(supernet_and_search, plan)
        smallest = pool.submit(train_net, plan, 'smallest', SMALLEST_NET)
        paths = searched.result()
        trained = {label: pool.submit(train_net, plan, label, paths[label]['arch']) for label in ('found', 'random')}
        nets = {label: paths[label] | job.result() for label, job in dict(trained, smallest=smallest).items()}
        image = pool.submit(picture, plan, nets['found']).result()
    report(plan, nets, image, (time.perf_counter() - start) / 60)


if __name__ == '__main__':
    main()
