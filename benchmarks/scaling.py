#!/usr/bin/env python
"""Simulates the scaling of a search: 1 to 256 workers that share the images of a generation.

It replays detnas_mm's method (docs/search.md): the batches of calibration and of search-val are distributed by the
package's own code, detnas_mm.evaluators.ranks.share_out; statistics are gathered when the last worker is done;
candidates are distributed to the workers for the metric. A worker that dies costs a restart and the present chunk.
Times of batches and metrics are drawn from those measured by benchmarks/one_shot_candidate.py or coco_sizes.py, or,
without such a file, around the given seconds, whose defaults are guesses.

Prints efficiency = time of one worker without failures / (workers x time) for equally fast workers, with stragglers,
and with stragglers and failures; and, for equally fast workers, the shares of the losses.

Example:
  python benchmarks/scaling.py                                      # the paper's sizes, a GPU assumed
  python benchmarks/scaling.py --measured work_dirs/benchmarks/one_shot_candidate.json --gather-seconds 0.05
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
from common import add_output, table, write_json

from detnas_mm.evaluators import ranks
from detnas_mm.evaluators.one_shot.path_tree import HANDFUL


@dataclass(frozen=True)
class Work:
    """One generation: its size, and the seconds of its parts."""

    candidates: int
    chunk: int
    calibration_batches: int
    val_batches: int
    seconds: Mapping[str, Sequence[float]]  # per candidate and batch; 'metric': per candidate
    gather_seconds: float  # per chunk and phase, with more than one worker
    cutting: Sequence[float]  # relative extra cost of a split batch, in recalibration and evaluation
    stragglers: float  # share of the batches that take three times as long
    failures: float  # per worker and hour
    restart_seconds: float


class Store(Counter):
    """A store of the ranks' counters."""

    def add(self, key: str, amount: int) -> int:
        """Adds to a counter and returns the sum."""
        self[key] += amount
        return self[key]


def walk(
    rng: np.random.Generator, work: Work, workers: int, seconds: Sequence[float], count: int, evaluation: bool
) -> tuple[float, float]:
    """Simulates a pass over batches: returns the seconds until the last worker is done, and the sum of working time."""
    batches = work.val_batches if evaluation else work.calibration_batches
    slow = np.where(rng.random(batches) < work.stragglers, 3.0, 1.0)
    times = rng.choice(seconds, batches) * slow * count
    store, rank = Store(), 0
    with mock.patch.multiple(
        ranks, get_world_size=lambda: workers, get_rank=lambda: rank, process_group_store=lambda: store
    ):
        shares = [ranks.share_out(range(batches), math.ceil(count / HANDFUL)) for _ in range(workers)]
        idle = [(0.0, worker) for worker in range(workers)]
        last = worked = 0.0
        while idle:
            now, rank = heapq.heappop(idle)
            unit = next(shares[rank], None)
            if unit is None:
                last = max(last, now)
                continue
            taken = times[unit.batch] / unit.parts * (1 + work.cutting[evaluation] * (unit.parts > 1))
            worked += taken
            heapq.heappush(idle, (now + taken, rank))
    return last, worked


def metrics(
    rng: np.random.Generator, work: Work, workers: int, seconds: Sequence[float], count: int
) -> tuple[float, float]:
    """Simulates the metrics of a chunk, distributed in advance; returns as :func:`walk`."""
    busy = np.bincount(np.arange(count) % workers, weights=rng.choice(seconds, count), minlength=workers)
    return float(busy.max()), float(busy.sum())


def generation(rng: np.random.Generator, work: Work, workers: int) -> tuple[float, dict[str, float]]:
    """Simulates a generation; returns its seconds, and the mean seconds that workers wait, by cause."""
    elapsed, waiting = 0.0, dict.fromkeys(('calibration', 'evaluation', 'metric', 'gathering'), 0.0)
    for first in range(0, work.candidates, work.chunk):
        count = min(work.chunk, work.candidates - first)
        while True:
            took = 0.0
            lost = dict.fromkeys(waiting, 0.0)
            for name, (last, worked) in dict(
                calibration=walk(rng, work, workers, work.seconds['calibration'], count, evaluation=False),
                evaluation=walk(rng, work, workers, work.seconds['evaluation'], count, evaluation=True),
                metric=metrics(rng, work, workers, work.seconds['metric'], count),
            ).items():
                took += last
                lost[name] += last - worked / workers
            if workers > 1:
                took += 2 * work.gather_seconds
                lost['gathering'] += 2 * work.gather_seconds
            between = 3600 / (work.failures * workers) if work.failures else np.inf  # mean seconds between failures
            if took > 20 * between:
                raise SystemExit(
                    f'{workers} workers fail every {between:.0f} s, and a chunk takes {took:.0f} s: no chunk would '
                    f'finish. Use a smaller --chunk.'
                )
            dies = rng.exponential(between)
            if dies >= took:
                break
            elapsed += dies + work.restart_seconds
        elapsed += took
        for name, value in lost.items():
            waiting[name] += value
    return elapsed, waiting


def measured(path: Path, images: int) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Reads measured seconds of batches and metrics, and the batch sizes.

    Args:
        path: File with measurements, of which the last one is used.
        images: Number of search-val images, to which the metric's time is scaled.
    """
    found = json.loads(path.read_text())
    found = found.get('outcomes', [found])[-1]
    if not found.get('batches'):
        raise SystemExit(
            f'{path} has no seconds of batches: write it with benchmarks/one_shot_candidate.py or coco_sizes.py.'
        )
    more = images / found['images']['evaluation']
    return found['batches'] | dict(metric=[more * taken for taken in found['batches']['metric']]), found['batch_sizes']


def assumed(args: argparse.Namespace) -> dict[str, np.ndarray]:
    """Draws seconds around those of the command line."""
    factors = np.maximum(1 + args.spread * np.random.default_rng(0).standard_normal(1000), 0.2)
    return dict(
        calibration=args.calibration_seconds * factors,
        evaluation=args.val_seconds * factors,
        metric=args.metric_seconds * factors,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--candidates', type=int, default=50, help='[%(default)s, as in the paper]')
    parser.add_argument('--chunk', type=int, default=50, help='candidates evaluated together [%(default)s]')
    parser.add_argument(
        '--images', type=int, nargs=2, default=[500, 5000], help='calibration and search-val [%(default)s]'
    )
    parser.add_argument('--batch-size', type=int, default=20, help='batch size without --measured [%(default)s]')
    parser.add_argument('--measured', type=Path, help='file of one_shot_candidate.py or coco_sizes.py')
    parser.add_argument('--calibration-seconds', type=float, default=0.2, help='per candidate and batch [%(default)s]')
    parser.add_argument('--val-seconds', type=float, default=0.5, help='per candidate and batch [%(default)s]')
    parser.add_argument('--metric-seconds', type=float, default=5.0, help='per candidate [%(default)s]')
    parser.add_argument('--gather-seconds', type=float, default=1.0, help='per chunk and phase [%(default)s]')
    parser.add_argument(
        '--cutting', type=float, nargs=2, default=[0.08, 0.03],
        help='relative extra cost of a split batch, in recalibration and in evaluation [0.08 0.03]'
    )  # fmt: skip
    parser.add_argument('--spread', type=float, default=0.05, help='relative, of batch times [%(default)s]')
    parser.add_argument('--straggling', type=float, default=0.02, help='share of batches 3x as slow [%(default)s]')
    parser.add_argument('--failures', type=float, default=1 / 100, help='failures per worker and hour [%(default)s]')
    parser.add_argument('--restart-seconds', type=float, default=90.0, help='[%(default)s]')
    parser.add_argument('--repeats', type=int, default=5, help='number of simulated generations [%(default)s]')
    add_output(parser, 'scaling.json')
    args = parser.parse_args()
    if min(args.candidates, args.chunk, args.batch_size) < 1:
        parser.error('--candidates, --chunk and --batch-size must be at least 1')
    sizes = dict(calibration=args.batch_size, evaluation=args.batch_size)
    seconds, sizes = measured(args.measured, args.images[1]) if args.measured else (assumed(args), sizes)
    batches = [-(-images // size) for images, size in zip(args.images, sizes.values(), strict=True)]
    rows = []
    for workers in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        found: dict[str, list[float]] = {}
        for name, straggling, failures in (
            ('even', 0.0, 0.0), ('stragglers', args.straggling, 0.0), ('failures', args.straggling, args.failures)
        ):  # fmt: skip
            work = Work(
                args.candidates, args.chunk, *batches, seconds, args.gather_seconds, args.cutting, straggling,
                failures, args.restart_seconds,
            )  # fmt: skip
            undisturbed = replace(work, failures=0.0)
            for seed in range(args.repeats):
                one, _ = generation(np.random.default_rng(seed), undisturbed, 1)
                many, waiting = generation(np.random.default_rng(seed), work, workers)
                found.setdefault(name, []).append(one / (workers * many))
                if name == 'even':
                    for what, value in waiting.items():
                        found.setdefault(what, []).append(value / many)
        rows.append({'workers': workers} | {name: f'{statistics.mean(values):.1%}' for name, values in found.items()})
    print(table(rows))
    print(
        '\ncalibration, evaluation, metric, gathering: share of time that a worker waits for others in that phase, for '
        'equally fast workers; the rest is the extra cost of split batches'
    )
    write_json(
        args.out,
        dict(
            rows=rows,
            settings={k: v for k, v in vars(args).items() if k not in ('out', 'measured')},
            measured=str(args.measured),
        ),
    )


if __name__ == '__main__':
    main()
