#!/usr/bin/env python
"""Runs all of DetNAS on Digits: trains a supernet, searches, and trains the found net and two controls.

Started by tools/quickstart.sh.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from _quickstart_steps import (
    ROOT,
    SMALLEST,
    Plan,
    Size,
    backbone_from,
    begin_lane,
    begin_step,
    load,
    say,
    silence,
    train,
)

from detnas_mm.cli import one_line_errors
from detnas_mm.files import write_json
from detnas_mm.terminal import doing

SPACE = dict(stem=16, channels=(32, 64, 128, 256), blocks=(1, 1, 2, 1))
SMALLEST_NET = '0|0|00|0'  # all 3x3


# -- the two parallel processes --------------------------------------------------------------------------------------


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
    """Runs steps 1–3; returns the found path, a random one of equal MACs and all-3x3, with their fitness."""
    pretrained, _ = train(plan, 'supernet_cls', 'detnas-digits_supernet_cls', {}, plan.size.supernet_cls)
    supernet, _ = train(
        plan, f'supernet_{plan.detector}', f'detnas-digits_supernet_{plan.detector}', backbone_from(pretrained),
        plan.size.supernet_det,
    )  # fmt: skip
    return search(plan, supernet)


def search(plan: Plan, supernet: Path) -> dict[str, Any]:
    from mmengine.registry import DefaultScope
    from mmengine.runner import load_checkpoint

    from detnas_mm.engine import run_search
    from detnas_mm.engine.launch import search_job
    from detnas_mm.models import build_model
    from detnas_mm.search import counted

    size = plan.size
    changes = {
        'search.strategy.population': size.population,
        'search.strategy.mutation': size.population // 2,
        'search.strategy.crossover': size.population - size.population // 2,
        'search.budget.generations': size.generations,
    }
    if size == SMALLEST:  # few calibration images, and no score threshold for hardly trained nets
        part = 'rcnn.' if plan.detector == 'fpn' else ''
        changes |= {'search.evaluator.calibration.num_images': 40, f'model.test_cfg.{part}score_thr': 0.0}
    changes |= {'search.seed': plan.seed, 'load_from': str(supernet)}
    cfg = load(plan, f'detnas-digits_search_{plan.detector}', changes)
    cfg.work_dir = str(begin_step(plan, f'search_{plan.detector}', cfg, dict(checkpoint=supernet)))
    job = search_job(cfg)
    job.log = say
    evaluator: Any = job.evaluator
    with DefaultScope.overwrite_default_scope('mmdet'), doing('search'):
        model = build_model(cfg)
        load_checkpoint(model, str(supernet), map_location='cpu')
        generations = counted(size.generations, 'generation')
        say(f'search: {generations} of {counted(size.population, "candidate")} …')
        best = run_search(job, model)[0]
        found = job.space.parse(best.arch)
        peer = random_peer(job.space, found, plan.seed)
        paths = dict(found=found, random=peer, smallest=job.space.parse(SMALLEST_NET))
        scores = evaluator.evaluate(list(paths.values()))
        metric = job.objectives[0].name
        return {
            label: dict(arch=job.space.describe(path), fitness=score.metrics.get(metric))
            for (label, path), score in zip(paths.items(), scores)
        }


def random_peer(space: Any, found: Any, seed: int) -> Any:
    """Draws a random path whose MACs are within 2 % of the found one's."""
    import numpy as np

    from detnas_mm.systems.detnas import MacsTable

    table = MacsTable(space, (96, 96))
    wanted = table.total(found)
    rng = np.random.default_rng([seed, 2])
    for path in space.sample_many(rng, 100_000):
        if path != found and abs(table.total(path) - wanted) <= 0.02 * wanted:
            return path
    raise RuntimeError(f'no other path has the MACs of {space.describe(found)} within 2 %')


# -- the report -----------------------------------------------------------------------------------------------------


def picture(plan: Plan, net: dict[str, Any]) -> Path:
    """Draws the found net's detections on test scenes; returns the picture's path."""
    from detnas_mm.visualization import picture_detections

    cfg = load(plan, f'detnas-digits_net_{plan.detector}', {'model.backbone.arch': net['arch']})
    title = f'{net["arch"]}, test mAP {net["test_mAP"]:.3f}'
    with doing('drawing what the found net detects'):
        return picture_detections(cfg, net['checkpoint'], plan.folder / 'detections.png', title)


def report(plan: Plan, nets: dict[str, dict[str, Any]], image: Path, minutes: float) -> None:
    from detnas_mm.systems.detnas import DetNASSpace, MacsTable, ParamsTable

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
    write_json(plan.folder / 'result.json', result, indent=2)
    searched = plan.folder / f'search_{plan.detector}'
    config = ROOT / 'configs' / 'digits' / f'detnas-digits_net_{plan.detector}.py'
    print('\n' + '\n'.join(lines))
    print('MACs: multiply-adds of the backbone at 96x96. One seed: not evidence that one net is better than another.\n')
    print(f'Done in {minutes:.1f} minutes. Written:')
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
    test = [sys.executable, ROOT / 'tools' / 'test.py', config, nets['found']['checkpoint'], '--cfg-options']
    command = shlex.join([*map(str, test), f'model.backbone.arch={nets["found"]["arch"]}'])
    print(f'  DETNAS_DIGITS={shlex.quote(str(plan.digits))} {command}')


def parse_args() -> Plan:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', default='work_dirs/quickstart', help='folder for all outputs; default: %(default)s')
    parser.add_argument('--detector', choices=['retinanet', 'fpn'], default='retinanet', help='default: %(default)s')
    parser.add_argument('--seed', type=int, default=0, help='seed of everything random; default: %(default)s')
    parser.add_argument('--smallest', action='store_true', help='run a few steps of everything, to see that it works')
    args = parser.parse_args()
    name = ('smallest_' if args.smallest else '') + f'{args.detector}_seed{args.seed}'
    out = Path(args.out).resolve() / name
    return Plan(str(out), args.detector, args.seed, SMALLEST if args.smallest else Size())


def main() -> None:
    plan = parse_args()
    from detnas_mm.datasets.digits import make_digits

    start = time.perf_counter()
    plan.folder.mkdir(parents=True, exist_ok=True)
    silence.start()
    with doing('making the Digits set'):
        say(str(make_digits(plan.digits, seed=plan.seed, overwrite=True, **dict(plan.size.digits))))
    say('Two processes of one thread each. The first: supernet and search; the second: the all-3x3 net.')
    say(f'Log, with what mmengine and mmdet report: {plan.folder / "log.txt"}')
    with ProcessPoolExecutor(2, get_context('spawn'), begin_lane, (plan,)) as pool:
        with doing('loading libraries'):
            pool.submit(os.getpid).result()
        searched = pool.submit(supernet_and_search, plan)
        smallest = pool.submit(train_net, plan, 'smallest', SMALLEST_NET)
        paths = searched.result()
        trained = {label: pool.submit(train_net, plan, label, paths[label]['arch']) for label in ('found', 'random')}
        nets = {label: paths[label] | job.result() for label, job in dict(trained, smallest=smallest).items()}
        image = pool.submit(picture, plan, nets['found']).result()
    report(plan, nets, image, (time.perf_counter() - start) / 60)


if __name__ == '__main__':
    one_line_errors(main, on_terminal=False)  # each process breaks its own silences
