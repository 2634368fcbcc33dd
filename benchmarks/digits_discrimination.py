r"""Measures whether Digits separates good backbones from bad ones.

Trains paths of the Digits space (all-3x3, all-7x7, all-Xception, and random ones) with several seeds each, with the
configs of the quickstart: pre-training on crops, fine-tuning in a RetinaNet, test mAP. A search can only find
differences that exceed the noise, so the result is the ratio

    standard deviation between paths (of their means over seeds) / standard deviation between seeds of one path (pooled)

Every finished run is a line in WORK_DIR/runs.jsonl; run again, the script resumes with the missing ones.

Examples:
  python benchmarks/digits_discrimination.py                  # 30 runs; about 80 minutes on 2 quiet cores
  python benchmarks/digits_discrimination.py --work-dir /tmp/try --random-paths 1 --seeds 2 \
      --pretrain-iters 20 --finetune-iters 40                 # a smoke test: 5 minutes
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from detnas_mm.datasets.digits import make_digits
from detnas_mm.files import write_json

ROOT = Path(__file__).parents[1]
CLASSIFY = ROOT / 'configs/digits/detnas-digits_net_cls.py'
DETECT = ROOT / 'configs/digits/detnas-digits_net_retinanet.py'
NAMED = {'all-3x3': '0|0|00|0', 'all-7x7': '2|2|22|2', 'all-Xception': '3|3|33|3'}
PATHS_SEED = 0  # fixed, so that every run of this script trains the same random paths


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/digits_discrimination'))
    parser.add_argument('--data', type=Path, default=Path('data/digits'), help='made if missing (default: data/digits)')
    parser.add_argument('--processes', type=int, default=2, help='parallel runs, one thread each (default: 2)')
    parser.add_argument('--seeds', type=int, default=3, help='seeds per path, at least 2 (default: 3)')
    parser.add_argument('--random-paths', type=int, default=7, help='besides the three named ones (default: 7)')
    parser.add_argument('--pretrain-iters', type=int, default=800, help='iterations on crops (default: 800)')
    parser.add_argument('--finetune-iters', type=int, default=1000, help='iterations of RetinaNet (default: 1000)')
    args = parser.parse_args()
    for name, least in (
        ('processes', 1),
        ('seeds', 2),
        ('random_paths', 0),
        ('pretrain_iters', 1),
        ('finetune_iters', 1),
    ):
        if getattr(args, name) < least:
            parser.error(f'--{name.replace("_", "-")} must be at least {least}; got {getattr(args, name)}')
    return args


def choose_paths(count: int) -> dict[str, str]:
    """Returns the named paths and ``count`` different random ones, by name."""
    from mmengine.config import Config

    from detnas_mm.systems.detnas import DetNASSpace

    space = DetNASSpace(Config.fromfile(DETECT).space)
    if count + len(NAMED) > space.size:
        sys.exit(f'--random-paths must be at most {space.size - len(NAMED)}, the other paths of the space; got {count}')
    paths, rng = dict(NAMED), np.random.default_rng(PATHS_SEED)
    while len(paths) < count + len(NAMED):
        text = space.describe(space.sample(rng))
        if text not in paths.values():
            paths[f'random {len(paths) - len(NAMED) + 1}'] = text
    return paths


def train(config: Path, arch: str, seed: int, iters: int, work_dir: str, checkpoint: str | None) -> tuple[str, dict]:
    """Trains and tests one net by a config; returns its checkpoint and test metrics."""
    import torch
    from mmengine.config import Config
    from mmengine.runner import Runner

    torch.set_num_threads(1)
    cfg = Config.fromfile(config)
    cfg.model.backbone.arch = arch
    if checkpoint:
        cfg.model.backbone.init_cfg = {'type': 'Pretrained', 'checkpoint': checkpoint, 'prefix': 'backbone.'}
    cfg.train_cfg.max_iters = iters
    cfg.default_hooks.checkpoint = {'type': 'CheckpointHook', 'by_epoch': False, 'interval': iters}
    cfg.randomness = {'seed': seed}
    cfg.work_dir, cfg.log_level = work_dir, 'WARNING'
    cfg.experiment_name = f'{config.stem}-{arch}-{seed}'
    runner = Runner.from_cfg(cfg)
    runner.train()
    return f'{work_dir}/iter_{iters}.pth', runner.test()


def run(arch: str, seed: int, settings: dict) -> dict:
    """Pre-trains, fine-tunes and tests one path; returns its row."""
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, 'w') as void, contextlib.redirect_stdout(void):
        started = time.perf_counter()
        pretrained, accuracy = train(CLASSIFY, arch, seed, settings['pretrain_iters'], f'{folder}/cls', None)
        between = time.perf_counter()
        _, scores = train(DETECT, arch, seed, settings['finetune_iters'], f'{folder}/det', pretrained)
        return {
            'arch': arch,
            'seed': seed,
            'mAP': scores.get('coco/bbox_mAP', 0.0),  # three decimals; missing if there are no detections
            'mAP_50': scores.get('coco/bbox_mAP_50', 0.0),
            'top1': accuracy['accuracy/top1'],
            'pretrain_s': round(between - started, 1),
            'finetune_s': round(time.perf_counter() - between, 1),
            'settings': settings,
        }


def read_runs(ledger: Path, settings: dict) -> dict[tuple[str, int], dict]:
    """Reads the finished runs, by (arch, seed)."""
    runs = {}
    for line in ledger.read_text().splitlines() if ledger.exists() else []:
        if not line:
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # the process was killed while writing; finish_runs begins a new line
            print(f'{ledger}: skipped an incomplete line')
            continue
        if row['settings'] != settings:
            sys.exit(
                f'{ledger} contains runs with other settings, {row["settings"]} instead of {settings}; use another '
                f'--work-dir'
            )
        runs[row['arch'], row['seed']] = row
    return runs


def finish_runs(todo: list[tuple[str, int]], settings: dict, processes: int, ledger: Path) -> None:
    """Runs what is missing, each in its own process, and appends finished runs to the ledger."""
    started = time.perf_counter()
    if ledger.exists() and not ledger.read_bytes().endswith(b'\n'):
        with ledger.open('a') as file:
            file.write('\n')
    os.environ.update(OMP_NUM_THREADS='1', MKL_NUM_THREADS='1')  # faster for two nets in parallel
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(processes, mp_context=context, max_tasks_per_child=1) as pool:
        running = {pool.submit(run, arch, seed, settings): (arch, seed) for arch, seed in todo}
        for done, future in enumerate(as_completed(running), 1):
            try:
                row = future.result()
            except Exception:
                pool.shutdown(cancel_futures=True)
                print('failed: {} with seed {}; run again to resume'.format(*running[future]))
                raise
            with ledger.open('a') as file:
                file.write(json.dumps(row) + '\n')
            left = (time.perf_counter() - started) / done * (len(todo) - done) / 60
            scores = f'mAP {row["mAP"]:.3f}  top-1 {row["top1"]:.1f}'
            times = f'{row["pretrain_s"]:.0f} + {row["finetune_s"]:.0f} s, about {left:.0f} min left'
            print(f'{done}/{len(todo)}  {row["arch"]}  seed {row["seed"]}  {scores}  {times}', flush=True)


def summarise(scores: list[list[float]]) -> dict[str, float]:
    """Computes standard deviations of scores[path][seed].

    ``between_paths`` is that of the paths' means; in ``true_between_paths`` the contribution of seeds is subtracted.
    """
    means = [statistics.mean(s) for s in scores]
    seeds = math.sqrt(statistics.mean(statistics.variance(s) for s in scores))
    paths = statistics.stdev(means)
    return {
        'paths': len(scores),
        'between_paths': paths,
        'between_seeds': seeds,
        # mmdet rounds mAP to 0.001, which adds a standard deviation of 0.0003.
        'ratio': paths / max(seeds, 0.0003),
        'true_between_paths': math.sqrt(max(paths**2 - seeds**2 / len(scores[0]), 0.0)),
    }


def report(paths: dict[str, str], runs: dict[tuple[str, int], dict], seeds: int) -> tuple[str, dict[str, dict]]:
    """Returns the tables as Markdown, and the summaries as data."""
    from mmengine.config import Config

    from detnas_mm.systems.detnas import DetNASSpace, MacsTable

    space = DetNASSpace(Config.fromfile(DETECT).space)
    macs = MacsTable.build(space, input_size=(96, 96))
    maps = {name: [runs[arch, seed]['mAP'] for seed in range(seeds)] for name, arch in paths.items()}
    lines = [
        '| path | architecture | MACs (backbone, 96²) | test mAP by seed | mean | top-1 |',
        '|---|---|---|---|---|---|',
    ]
    for name in sorted(paths, key=lambda n: -statistics.mean(maps[n])):
        arch = paths[name]
        top1 = statistics.mean(runs[arch, seed]['top1'] for seed in range(seeds))
        by_seed = ' '.join(f'{value:.3f}' for value in maps[name])
        ops = arch.replace('|', ' ')  # "|" would end the cell
        cost = macs.total(space.parse(arch)) / 1e6
        lines.append(f'| {name} | {ops} | {cost:.2f} M | {by_seed} | {statistics.mean(maps[name]):.3f} | {top1:.1f} |')
    groups = {'all': list(maps.values()), 'random': [v for n, v in maps.items() if n.startswith('random')]}
    summary = {name: summarise(scores) for name, scores in groups.items() if len(scores) >= 2}
    lines += [
        '',
        '| standard deviation of test mAP over | between paths | between seeds | ratio |',
        '|---|---|---|---|',
    ]
    for name, row in summary.items():
        label = f'{name} {row["paths"]} paths' if name == 'all' else f'the {row["paths"]} random ones'
        lines.append(f'| {label} | {row["between_paths"]:.4f} | {row["between_seeds"]:.4f} | {row["ratio"]:.1f} |')
    return '\n'.join(lines), summary


def main() -> None:
    args = parse_args()
    print(make_digits(args.data))
    os.environ['DETNAS_DIGITS'] = str(args.data.resolve())
    args.work_dir.mkdir(parents=True, exist_ok=True)
    ledger = args.work_dir / 'runs.jsonl'
    stamp = json.loads((args.data / 'digits.json').read_text())
    settings = {
        'pretrain_iters': args.pretrain_iters,
        'finetune_iters': args.finetune_iters,
        'digits': stamp['parameters'],
        'digits_format': stamp['format'],
    }
    paths = choose_paths(args.random_paths)
    wanted = [(arch, seed) for seed in range(args.seeds) for arch in paths.values()]
    done = read_runs(ledger, settings)
    todo = [key for key in wanted if key not in done]
    print(f'{len(wanted)} runs, {len(wanted) - len(todo)} of them done; {args.processes} side by side')
    if todo:
        finish_runs(todo, settings, args.processes, ledger)
    runs = read_runs(ledger, settings)
    text, summary = report(paths, runs, args.seeds)
    print(text)
    out = args.work_dir / 'digits_discrimination.json'
    machine = {
        'cpu': platform.processor() or platform.machine(),
        'cores': os.cpu_count(),
        'python': platform.python_version(),
    }
    content = {
        'summary': summary,
        'paths': paths,
        'settings': settings,
        'machine': machine,
        'runs': [{k: v for k, v in runs[key].items() if k != 'settings'} for key in wanted],
    }
    write_json(out, content, indent=1)
    print(f'\nAlso in {out}')


if __name__ == '__main__':
    main()
