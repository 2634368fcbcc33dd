#!/usr/bin/env python
"""Measures the cost of a search at COCO's image sizes: seconds per candidate by part, and days for the paper's search.

Images are random, 1333x800, written as JPEG and read again; weights are random, too. Scores of such a detector are low,
so the score threshold is set such that about --boxes boxes per image exceed it, as for a trained one. Uses a GPU if
available. The times of batches, images and metrics are extrapolated to 1,000 candidates on 500 + 5,000 images; the
paper's search took 20 GPUs a day.

Example:
  python benchmarks/coco_sizes.py configs/detnas/detnas-small_search_retinanet_coco.py \
      configs/detnas/detnas-large_search_fpn_coco.py
  python benchmarks/coco_sizes.py configs/detnas/detnas-small_search_retinanet_coco.py \
      --precision fp32 bf16 --channels-last --evaluation-batch-size 8 16 32
  python benchmarks/coco_sizes.py configs/detnas/detnas-small_search_retinanet_coco.py \
      --images 2 4 --batch-size 2 --candidates 2 --rounds 1        # what a CPU does in a few minutes
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from common import add_output, table, write_json
from mmengine.config import Config
from mmengine.registry import DefaultScope
from one_shot_candidate import measure, print_parts

from detnas_mm.compat import cuda_usable
from detnas_mm.evaluators.temporary import quiet
from detnas_mm.models import build_model
from detnas_mm.search import SearchJob

CANDIDATES, GENERATION, IMAGES, PAPERS_DAYS = 1000, 50, dict(calibration=500, evaluation=5000), 20
HEIGHT, WIDTH, BOXES, CLASSES = 800, 1333, 7, 80


def make_images(folder: Path, name: str, count: int, height: int, width: int) -> Path:
    """Writes smooth random images with random boxes, in COCO's format; returns the annotation file."""
    rng = np.random.default_rng(count)
    (folder / name).mkdir()
    images, annotations = [], []
    for number in range(count):
        coarse = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3)).astype(np.uint8)
        mmcv.imwrite(mmcv.imresize(coarse, (width, height)), str(folder / name / f'{number}.jpg'))
        images.append(dict(id=number, file_name=f'{number}.jpg', height=height, width=width))
        for _ in range(BOXES):
            w, h = rng.uniform(0.05, 0.5) * width, rng.uniform(0.05, 0.5) * height
            box = [rng.uniform(0, width - w), rng.uniform(0, height - h), w, h]
            annotations.append(
                dict(id=len(annotations) + 1, image_id=number, category_id=int(rng.integers(1, CLASSES + 1)),
                     bbox=box, area=w * h, iscrowd=0)
            )  # fmt: skip
    path = folder / f'{name}.json'
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories())))
    return path


def categories() -> list[dict[str, Any]]:
    """Returns COCO's categories by mmdet's names."""
    from mmdet.datasets import CocoDataset

    return [dict(id=number + 1, name=name) for number, name in enumerate(CocoDataset.METAINFO['classes'])]


def prepared(path: str, args: argparse.Namespace, precision: str, size: int | None, folder: Path) -> Any:
    """Returns the config of a search, on random images."""
    cfg = Config.fromfile(path)
    evaluator = cfg.search.evaluator
    for one, name in ((evaluator.calibration, 'calibration'), (evaluator, 'evaluation')):
        dataset = one.dataloader.dataset
        dataset.update(data_root='', ann_file=str(folder / f'{name}.json'), data_prefix=dict(img=str(folder / name)))
        one.dataloader.update(batch_size=args.batch_size or one.dataloader.batch_size, num_workers=0)
        if size is not None and one is evaluator:
            one.dataloader.batch_size = size
        for step in dataset.pipeline:
            if step.type == 'Resize':
                step.scale = (args.size[1], args.size[0])
    evaluator.metric.ann_file = str(folder / 'evaluation.json')
    evaluator.calibration.num_images = args.images[0]
    evaluator.update(precision=precision, channels_last=args.channels_last, cache_mb=1e6)
    test_cfg = cfg.model.test_cfg
    judging = test_cfg.get('rcnn', test_cfg)
    kept = dict(judging)
    judging.update(score_thr=0.0, nms=dict(type='nms', iou_threshold=1.0), max_per_img=1_000_000)
    judging.update(kept, score_thr=score_of_rank(cfg, args.boxes))
    return cfg


def built(cfg: Any) -> torch.nn.Module:
    """Builds a config's model with the weights of seed 0, on the GPU if there is one."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return build_model(cfg).to('cuda' if cuda_usable() else 'cpu')


def score_of_rank(cfg: Any, rank: int) -> float:
    """Returns the score of the box of this rank per image, without a threshold, for one path and the first images."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope), quiet(), torch.no_grad():
        job = SearchJob.from_config(cfg)
        evaluator: Any = job.evaluator
        evaluator.setup(job, built(cfg))
        _, data = next(evaluator.batches.walk([0]))
        with evaluator.recalibrated(job.space.sample_many(np.random.default_rng(0), 1)[0]) as ready:
            samples: Any = ready.test_step(data)
    scores = [sample.pred_instances.scores.sort(descending=True).values for sample in samples]
    return statistics.mean(float(one[min(rank, len(one)) - 1]) for one in scores)


def papers_search(found: dict[str, Any]) -> dict[str, float]:
    """Returns seconds per candidate of the paper's search on this device, by part.

    Images are counted as loaded once per generation, that is, without an image cache.

    Args:
        found: Result of :func:`one_shot_candidate.measure`.
    """
    seconds = {
        name: statistics.mean(found['batches'][name]) * images / found['batch_sizes'][name]
        for name, images in IMAGES.items()
    }
    measured, wanted = found['images']['evaluation'], IMAGES['evaluation']
    seconds['metric'] = statistics.mean(found['batches']['metric']) * wanted / measured
    seconds['loading'] = sum(found['loading'][name] / found['images'][name] * n for name, n in IMAGES.items())
    seconds['loading'] /= GENERATION
    return seconds


def row_of(found: dict[str, Any]) -> dict[str, Any]:
    """Returns the result of :func:`papers_search` as a row of the table."""
    seconds = papers_search(found)
    whole = sum(seconds.values())
    return {'images a second': sum(IMAGES.values()) / whole} | {
        **{part: f'{taken / whole:.0%}' for part, taken in seconds.items()},
        'days of 1,000 candidates': CANDIDATES * whole / 86400,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', help='configs of searches on COCO')
    parser.add_argument(
        '--images', type=int, nargs=2, default=[40, 80], help='calibration and search-val images [40 80]'
    )
    parser.add_argument('--size', type=int, nargs=2, default=[HEIGHT, WIDTH], help='height, width [800 1333]')
    parser.add_argument('--batch-size', type=int, help='images per batch [that of each config]')
    parser.add_argument(
        '--evaluation-batch-size', type=int, nargs='+', default=[None], help='of search-val only; each in turn'
    )
    parser.add_argument('--candidates', type=int, default=10, help='candidates evaluated together [%(default)s]')
    parser.add_argument('--rounds', type=int, default=3, help='[%(default)s]')
    parser.add_argument('--precision', nargs='+', default=['fp32'], help='fp32, fp16 or bf16; each in turn [fp32]')
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument(
        '--boxes', type=int, default=1000, help='boxes per image above the score threshold, before NMS [%(default)s]'
    )
    parser.add_argument('--threads', type=int, default=1, help='[%(default)s]')
    add_output(parser, 'coco_sizes.json')
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    device = torch.cuda.get_device_name() if cuda_usable() else 'cpu'
    outcomes, rows = [], []
    with tempfile.TemporaryDirectory() as name:
        for part, count in zip(IMAGES, args.images, strict=True):
            make_images(Path(name), part, count, *args.size)
        for path, precision, size in itertools.product(args.configs, args.precision, args.evaluation_batch_size):
            cfg = prepared(path, args, precision, size, Path(name))
            with quiet():
                found = measure(cfg, built(cfg), args.candidates, rounds=args.rounds)
            which = dict(config=Path(path).stem, precision=precision, batch=cfg.search.evaluator.dataloader.batch_size)
            print(
                f'\n{", ".join(map(str, which.values()))}: {statistics.median(found["seconds"]):.2f} s a candidate '
                f'on {device}'
            )
            print_parts(found)
            rows.append(which | row_of(found))
            outcomes.append(dict(found, **which))
            settings = {key: str(value) for key, value in vars(args).items()} | dict(device=device)
            write_json(args.out, dict(outcomes=outcomes, rows=rows, settings=settings))
    print(
        f"\nThe paper's search, {CANDIDATES:,} candidates on 500 + 5,000 images ({PAPERS_DAYS} GPU-days in the paper), "
        f'on one {device}, from what was measured:\n{table(rows)}'
    )


if __name__ == '__main__':
    main()
