#!/usr/bin/env python
"""Compares image caches of a search: file contents, decoded images, resized images (as the search does), none.

Synthetic images of 640x480 with the file sizes of COCO's go through the pipeline of a search on COCO. The times of each
step, and of receiving an image from the worker that loaded it, give the remaining loading time per chunk of candidates
and the share of the search that waits for it: loading overlaps with evaluation, receiving does not. Times are processor
times, which other programs hardly affect.

Example:
  python benchmarks/loading.py                              # evaluation as on an H200 (benchmarks/measured.md)
  python benchmarks/loading.py --evaluation-ms 300          # as on a CPU
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import mmcv
import torch
from common import add_output, table, write_json
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from pictures import HEIGHT, WIDTH, coco

from detnas_mm.evaluators.detection.worker_loading import load_ahead

CONFIG = Path(__file__).resolve().parents[1] / 'configs' / 'detnas' / 'detnas-small_search_retinanet_coco.py'
IMAGES = 5000


class Same:
    """A data set of copies of one loaded item."""

    def __init__(self, item: Any) -> None:
        self.item = item

    def __getitem__(self, index: int) -> Any:
        return copy.deepcopy(self.item)  # a batch of the same object would be stored once


def milliseconds(work: Callable[[int], Any], count: int) -> float:
    """Returns the median processor time in ms of calling a function with each of some numbers."""
    taken = []
    for number in range(count):
        start = time.process_time()
        work(number)
        taken.append(time.process_time() - start)
    return 1000 * statistics.median(taken)


def steps(dataset: Any, files: Sequence[Path], batch_size: int, workers: int) -> dict[str, float]:
    """Returns milliseconds per image for each step of loading."""
    contents = [file.read_bytes() for file in files]
    found = dict(
        read=milliseconds(lambda n: files[n].read_bytes(), len(files)),
        decode=milliseconds(lambda n: mmcv.imfrombytes(contents[n]), len(files)),
    )
    found['resize and pack'] = milliseconds(lambda n: dataset[n], len(files)) - sum(found.values())
    sent = load_ahead(Same(dataset[0]), [range(batch_size)] * (len(files) // batch_size + workers), workers)
    for _ in range(workers):  # wait until all workers have started
        next(sent)
    found['receive'] = milliseconds(lambda n: next(sent), len(files) // batch_size) / batch_size
    sent.close()
    return found


def ways(taken: dict[str, float], bytes_each: dict[str, float], args: argparse.Namespace, workers: int) -> list[dict]:
    """Returns a row for each kind of cache."""
    spared = {
        'nothing': [],
        'bytes as read': ['read'],
        'decoded images': ['read', 'decode'],
        'resized images': list(taken),
    }
    rows = []
    for kept, steps_spared in spared.items():
        fit = min(1.0, args.cache_mb * 2**20 / bytes_each[kept] / IMAGES) if kept in bytes_each else 0.0
        left = {name: ms * (1 - fit * (name in steps_spared)) for name, ms in taken.items()}
        receiving = left.pop('receive')
        evaluating = args.candidates * args.evaluation_ms
        whole = max(evaluating + receiving, sum(left.values()) / workers)
        rows.append(
            {
                'kept': kept,
                'KB an image': bytes_each.get(kept, 0.0) / 1024,
                f'% of {IMAGES:,} that fit': 100 * fit,
                'ms to load an image': sum(left.values()),
                'ms to receive it': receiving,
                '% of the search that waits': 100 * (1 - evaluating / whole),
            }
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=200, help='images to measure with [%(default)s]')
    parser.add_argument('--cache-mb', type=float, default=2048, help='[%(default)s]')
    parser.add_argument('--candidates', type=int, default=10, help='candidates evaluated together [%(default)s]')
    parser.add_argument(
        '--evaluation-ms', type=float, default=7.6, help='of a candidate per image [%(default)s, of an H200]'
    )
    add_output(parser, 'loading.json')
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, mock.patch.dict(os.environ):
        root = Path(name, 'data')
        coco(root, args.images, 1)
        os.environ['DETNAS_COCO'] = str(root)
        cfg = Config.fromfile(CONFIG)
        loader = cfg.search.evaluator.dataloader
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            dataset = DATASETS.build(loader.dataset)
        files = [Path(dataset.get_data_info(number)['img_path']) for number in range(args.images)]
        taken = steps(dataset, files, loader.batch_size, loader.num_workers)
        bytes_each = {
            'bytes as read': statistics.mean(file.stat().st_size for file in files),
            'decoded images': 3.0 * WIDTH * HEIGHT,
            'resized images': float(dataset[0]['inputs'].nbytes),
        }
    rows = ways(taken, bytes_each, args, loader.num_workers)
    print(', '.join(f'{name} {ms:.2f}' for name, ms in taken.items()), 'ms an image')
    print(f'{args.candidates} candidates together, {loader.num_workers} workers, {args.evaluation_ms} ms a candidate:')
    print(table(rows))
    write_json(args.out, dict(steps=taken, rows=rows, settings={key: str(value) for key, value in vars(args).items()}))


if __name__ == '__main__':
    main()
