#!/usr/bin/env python
"""A documented search at its real counts of images, on made-up pictures, within a container's limits.

The config's own loaders, workers, batches and cache, a limit of open files and a small /dev/shm (where this is root,
which can mount one). A few pictures stand for all: files are links to them. The supernet is the smallest that the
space allows, with random weights and a slim head, so that a CPU does in an hour what the paper's does in days; a
threshold for scores leaves few boxes. Prints what each phase takes at most: seconds, open files, shared memory, memory.
Ends with exit code 1 if the search fails, or if the last generation takes more of them than the first.

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
#: Config, what makes its data, the variable that names their folder, images to search and to train on.
PIPELINES: dict[str, tuple[str, Any, str, int, int]] = {
    'coco': ('detnas-small_search_retinanet_coco', coco, 'DETNAS_COCO', 5000, 112_287),
    'voc': ('detnas-small_search_retinanet_voc', voc, 'DETNAS_VOC', 5000, 11_551),
    'imagenet': ('detnas-small_search_cls_imagenet', imagenet, 'DETNAS_IMAGENET', 50_000, 1_231_167),
}
#: By how much the last generation may exceed the first: a share, and an amount that does not count.
TOLERANCES = {'open files': (0.1, 8), 'shared MB': (0.0, 1), 'memory MB': (0.1, 32), 'process MB': (0.1, 32)}
#: What mounts a /dev/shm of its own for a command.
MOUNTED = ['unshare', '-m', 'bash', '-c', 'mount -t tmpfs -o size="$0"m tmpfs /dev/shm && exec "$@"']


def prepared(args: argparse.Namespace) -> Config:
    """The documented config, with a slim model, and as many candidates and images as asked for."""
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
    """Writes random weights, and sets the threshold so that a few boxes of an image exceed it, whichever the path."""
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
    """Where a search is, by its ledger."""
    lines = path.read_bytes().count(b'\n') if path.exists() else 0
    if not lines:
        return 'setup'
    done = (lines - 1) // candidates
    return f'generation {done + 1}' if done < generations else 'export'


def grown(first: dict[str, Any], last: dict[str, Any]) -> list[str]:
    """What the last generation takes more of than the first, in words."""
    return [
        f'{name}: {first[name]:,.0f}, then {last[name]:,.0f}'
        for name, (share, amount) in TOLERANCES.items()
        if last[name] > first[name] * (1 + share) + amount
    ]


def limited(args: argparse.Namespace) -> tuple[list[str], str]:
    """What is put before a command so that it has a small /dev/shm, and what to say of it."""
    mount = [*MOUNTED, str(args.shm_mb)]
    if shutil.which('unshare') and not subprocess.run([*mount, 'true'], capture_output=True).returncode:
        return mount, f'{args.shm_mb} MB'
    return [], 'not limited, since this process cannot mount one'


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pipeline', choices=PIPELINES)
    parser.add_argument('--images', type=int, help='of search-val [5,000; ImageNet: 50,000]')
    parser.add_argument(
        '--train-images', type=int, help='listed to train on, where 500 to calibrate by come from [all]'
    )
    parser.add_argument('--fraction', type=float, default=1, help='of all these counts, and of the 500 [%(default)s]')
    parser.add_argument('--scale', type=int, nargs=2, help="to resize to, not for ImageNet [the config's: 1333 800]")
    parser.add_argument('--generations', type=int, default=2, help='[%(default)s]')
    parser.add_argument('--candidates', type=int, default=4, help='of a generation [%(default)s]')
    parser.add_argument('--max-files', type=int, default=1024, help='open files of a process [%(default)s]')
    parser.add_argument('--shm-mb', type=int, default=64, help='size of /dev/shm, as Docker has it [%(default)s]')
    parser.add_argument('--cfg-options', nargs='+', default=[], help='further options of tools/search.py')
    parser.add_argument('--work-dir', type=Path, help='for data and results; kept [a temporary folder]')
    add_output(parser, 'rehearsal.json')
    args = parser.parse_args(arguments)
    if args.scale and args.pipeline == 'imagenet':
        parser.error('--scale: images of ImageNet are cropped to 224x224 whatever their size')
    with tempfile.TemporaryDirectory() as name:
        folder = (args.work_dir or Path(name)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        with mock.patch.dict(os.environ):  # where the data are stands there
            failed = rehearse(args, folder)
    if failed:
        raise SystemExit(1)


def rehearse(args: argparse.Namespace, folder: Path) -> list[str]:
    """Makes data and supernet, runs the search, prints and writes what it took; returns what went wrong."""
    _, make, variable, images, train_images = PIPELINES[args.pipeline]
    cfg = prepared(args)
    counts = [max(round(n * args.fraction), 1) for n in (args.images or images, args.train_images or train_images)]
    counts[1] = max(counts[1], cfg.search.evaluator.calibration.num_images)
    data = folder / '-'.join(map(str, ('data', *counts)))
    if not data.exists():
        make(data, *counts)
    os.environ[variable] = str(data)
    cfg = prepared(args)  # which names the folder now
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
            time.sleep(max(0.5, 20 * (time.perf_counter() - start)))  # counting the pages of gigabytes takes a while
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
