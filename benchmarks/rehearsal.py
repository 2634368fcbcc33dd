#!/usr/bin/env python
"""Runs a documented search with its real number of images, on synthetic images, within a container's limits.

Uses the config's own loaders, workers, batches and cache, a limit on open files and a small /dev/shm (only as root,
who can mount one). Image files are links to a few images. The supernet is the smallest of the space, with random
weights and a slim head, so that a CPU takes an hour instead of days; a score threshold leaves few boxes. Prints the
peak of each phase: seconds, open files, shared memory, memory. The exit code is 1 if the search fails, or if the last
generation takes more than the first.

Example:
  python benchmarks/rehearsal.py coco                         # 5,000 + 500 images of 640x480, resized to 1067x800
  python benchmarks/rehearsal.py coco --scale 400 267 --train-images 5000       # a tenth of their pixels: minutes
  python benchmarks/rehearsal.py imagenet --fraction 0.1      # 5,000 + 60 images in place of 50,000 + 500
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from common import add_output, table, write_json
from mmengine.config import Config
from mmengine.registry import DefaultScope
from pictures import coco, imagenet, voc
from processes import Watch

from detnas_mm.config_types import nodes
from detnas_mm.engine.config import write_config
from detnas_mm.models import build_model, find_supernet
from detnas_mm.search import read_ledger

ROOT = Path(__file__).resolve().parents[1]
SPACE = dict(stem=2, channels=(4, 6, 8, 10), blocks=(1, 1, 1, 1), last=64)
#: Config, function that makes its data, variable of their folder, numbers of search-val and training images.
PIPELINES: dict[str, tuple[str, Any, str, int, int]] = {
    'coco': ('detnas-small_search_retinanet_coco', coco, 'DETNAS_COCO', 5000, 112_287),
    'voc': ('detnas-small_search_retinanet_voc', voc, 'DETNAS_VOC', 5000, 11_551),
    'imagenet': ('detnas-small_search_cls_imagenet', imagenet, 'DETNAS_IMAGENET', 50_000, 1_231_167),
}
#: Allowed increase from the first to the last generation: relative, and absolute.
TOLERANCES = {'open files': (0.1, 8), 'shared MB': (0.0, 1), 'memory MB': (0.1, 32), 'process MB': (0.1, 32)}
#: Command prefix that mounts a separate /dev/shm.
MOUNTED = ['unshare', '-m', 'bash', '-c', 'mount -t tmpfs -o size="$0"m tmpfs /dev/shm && exec "$@"']


def prepared(args: argparse.Namespace) -> Config:
    """Returns the documented config with a slim model and the given numbers of candidates and images."""
    cfg = Config.fromfile(ROOT / 'configs' / 'detnas' / f'{PIPELINES[args.pipeline][0]}.py')
    half = args.candidates // 2
    cfg.model.backbone.space = cfg.search.space.space = SPACE
    cfg.search.strategy.update(
        population=args.candidates, parents=max(half, 1), mutation=half, crossover=args.candidates - half
    )
    cfg.search.budget.generations = args.generations
    cfg.search.export = dict(config=None, top_k=1)
    calibration = cfg.search.evaluator.calibration
    batch_size = calibration.dataloader.batch_size
    calibration.num_images = max(round(calibration.num_images * args.fraction / batch_size), 1) * batch_size
    if args.pipeline == 'imagenet':
        cfg.model.head.in_channels = SPACE['last']
        return cfg
    cfg.model.neck.update(in_channels=list(SPACE['channels']), out_channels=8)
    head = cfg.model.bbox_head
    head.update(in_channels=8, feat_channels=8, stacked_convs=1)
    head.anchor_generator.update(scales_per_octave=1, ratios=[1.0])
    for node in nodes(cfg.search) if args.scale else ():
        if node.get('type') == 'Resize':
            node['scale'] = tuple(args.scale)
    return cfg


def write_supernet(cfg: Config, path: Path) -> None:
    """Writes random weights, and sets the score threshold such that a few boxes per image exceed it for any path."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.no_grad():
        model: Any = build_model(cfg)
        if 'bbox_head' in cfg.model:
            supernet, highest = find_supernet(model), []
            for choice in range(4):
                supernet.set_path(supernet.space.parse([choice] * 4))
                scores, _ = model(torch.randint(256, (4, 3, 256, 320)).float())
                highest.append(
                    float(torch.cat([score.flatten(1) for score in scores], 1).sigmoid().topk(20).values.min())
                )
            cfg.model.test_cfg.score_thr = min(highest)
        torch.save(dict(state_dict=model.state_dict(), meta={}), path)


def phase(path: Path, candidates: int, generations: int) -> str:
    """Returns the phase of a search, from its ledger."""
    lines = path.read_bytes().count(b'\n') if path.exists() else 0
    if not lines:
        return 'setup'
    done = (lines - 1) // candidates
    return f'generation {done + 1}' if done < generations else 'export'


def grown(first: dict[str, Any], last: dict[str, Any]) -> list[str]:
    """Describes resources of which the last generation takes more than the first."""
    return [
        f'{name}: {first[name]:,.0f}, then {last[name]:,.0f}'
        for name, (share, amount) in TOLERANCES.items()
        if last[name] > first[name] * (1 + share) + amount
    ]


def limited(args: argparse.Namespace) -> tuple[list[str], str]:
    """Returns the command prefix for a small /dev/shm, and its description."""
    mount = [*MOUNTED, str(args.shm_mb)]
    if shutil.which('unshare') and not subprocess.run([*mount, 'true'], capture_output=True).returncode:
        return mount, f'{args.shm_mb} MB'
    return [], 'not limited, since this process cannot mount one'


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pipeline', choices=PIPELINES)
    parser.add_argument('--images', type=int, help='search-val images [5,000; ImageNet: 50,000]')
    parser.add_argument('--train-images', type=int, help='training images, of which 500 are used for calibration [all]')
    parser.add_argument('--fraction', type=float, default=1, help='factor of all these counts [%(default)s]')
    parser.add_argument('--scale', type=int, nargs=2, help="image scale, not for ImageNet [the config's: 1333 800]")
    parser.add_argument('--generations', type=int, default=2, help='[%(default)s]')
    parser.add_argument('--candidates', type=int, default=4, help='candidates per generation [%(default)s]')
    parser.add_argument('--max-files', type=int, default=1024, help='limit on open files per process [%(default)s]')
    parser.add_argument('--shm-mb', type=int, default=64, help='size of /dev/shm, as in Docker [%(default)s]')
    parser.add_argument('--cfg-options', nargs='+', default=[], help='further options of tools/search.py')
    parser.add_argument('--work-dir', type=Path, help='folder for data and results, which is kept [a temporary folder]')
    add_output(parser, 'rehearsal.json')
    args = parser.parse_args(arguments)
    if args.scale and args.pipeline == 'imagenet':
        parser.error('--scale: images of ImageNet are cropped to 224x224 whatever their size')
    with tempfile.TemporaryDirectory() as name:
        folder = (args.work_dir or Path(name)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        with mock.patch.dict(os.environ):  # contains the folder of the data
            failed = rehearse(args, folder)
    if failed:
        raise SystemExit(1)


def rehearse(args: argparse.Namespace, folder: Path) -> list[str]:
    """Makes data and supernet, runs the search, prints and writes its resources; returns descriptions of failures."""
    _, make, variable, images, train_images = PIPELINES[args.pipeline]
    cfg = prepared(args)
    counts = [max(round(n * args.fraction), 1) for n in (args.images or images, args.train_images or train_images)]
    counts[1] = max(counts[1], cfg.search.evaluator.calibration.num_images)
    data = folder / '-'.join(map(str, ('data', *counts)))
    if not data.exists():
        make(data, *counts)
    os.environ[variable] = str(data)
    cfg = prepared(args)  # reads the folder from the environment
    write_supernet(cfg, folder / 'supernet.pth')
    write_config(cfg, folder / 'config.py')
    shutil.rmtree(folder / 'search', ignore_errors=True)
    ledger = folder / 'search' / 'ledger.jsonl'
    mount, shm = limited(args)
    command = ['tools/search.py', folder / 'config.py', folder / 'supernet.pth', '--work-dir', folder / 'search']
    command += ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    words = [sys.executable, *map(str, command)]
    print(
        f'{counts[0]:,} images to search on, {cfg.search.evaluator.calibration.num_images:,} of {counts[1]:,} to '
        f'calibrate by; {args.max_files:,} open files; /dev/shm: {shm}\n{" ".join(words)}',
        flush=True,
    )

    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (args.max_files, args.max_files))

    with open(folder / 'log.txt', 'w') as log:
        process = subprocess.Popen(mount + words, cwd=ROOT, stdout=log, stderr=log, preexec_fn=limit_files)
    watch = Watch(process.pid)
    try:
        while process.poll() is None:
            start = time.perf_counter()
            watch.look(phase(ledger, args.candidates, args.generations))
            time.sleep(max(0.5, 20 * (time.perf_counter() - start)))  # reading Pss of gigabytes takes long
    finally:
        process.kill()
    rows = watch.rows()
    failed = [f'exit code {process.returncode}'] if process.returncode else []
    if failed:
        print('\n'.join((folder / 'log.txt').read_text().splitlines()[-5:]))
    found: dict[str, Any] = dict(phases=rows, shm=shm, counts=counts, command=words)
    if rows:
        print(table(rows))
    if not failed:
        _, records = read_ledger(ledger)
        found['candidates'] = [
            dict(arch=r.arch, generation=r.generation, status=r.status, time=r.time) for r in records
        ]
        taken = [r.time['prediction'] / counts[0] * 1000 for r in records]
        print(f'evaluation: {min(taken):.1f} to {max(taken):.1f} ms an image and candidate')
        failed = [f'{r.arch}: {r.reason}' for r in records if r.reason]
        generations = [row for row in rows if row['phase'].startswith('generation')]
        failed += grown(generations[0], generations[-1]) if len(generations) > 1 else ['no second generation was seen']
    settings = {key: str(value) for key, value in vars(args).items()}
    write_json(args.out, dict(found, failed=failed, settings=settings))
    print('\n'.join(f'FAILED: {line}' for line in failed) or 'flat from the first to the last generation')
    return failed


if __name__ == '__main__':
    main()
