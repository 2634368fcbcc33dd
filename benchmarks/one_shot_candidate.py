#!/usr/bin/env python
"""Seconds per candidate of the one-shot evaluation, and where they go.

Candidates are random paths of the search's space, evaluated together as a search does with a generation, or with
``--chunk-size 1`` one at a time. A part's time is what is spent in it and in nothing below it that has a row of its
own; "other" is what is left: batches copied from the cache, statistics put in place. The seconds of every batch are
written, too: benchmarks/scaling.py simulates many workers with them.

Example:
  python benchmarks/one_shot_candidate.py configs/digits/detnas-digits_search_retinanet.py \
      work_dirs/detnas-digits_supernet_retinanet/iter_2000.pth
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from common import add_output, table, write_json
from mmengine.config import Config
from mmengine.registry import DefaultScope

from detnas_mm.compat import load_checkpoint_file
from detnas_mm.engine import SearchPlan
from detnas_mm.engine.launch import fit_to_machine
from detnas_mm.evaluators import dense_boxes, path_tree, roi_boxes
from detnas_mm.models import build_model

#: Attribute path of a part below the model, its method, its row in the table. What a model lacks is left out.
PARTS = [
    ('data_preprocessor', 'forward', 'images to floats'),
    ('neck', 'forward', 'neck'),
    ('bbox_head', 'forward', 'head'),
    ('bbox_head', 'predict_by_feat', 'boxes from head (decoding, NMS)'),
    ('rpn_head', 'forward', 'RPN'),
    ('rpn_head', 'predict_by_feat', 'proposals (decoding, NMS)'),
    ('roi_head', 'predict', 'RoI head (RoIAlign, head, decoding, NMS)'),
    ('head', 'forward', 'head'),
]


class Clock:
    """Adds up the time of functions by label, without the time of labelled functions inside them."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._inner = [0.0]

    def watch(self, owner: Any, method: str, label: str | Callable[[], str]) -> None:
        """Replaces a method by one that is timed."""
        original = getattr(owner, method)

        @functools.wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            start = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                whole = time.perf_counter() - start
                self.seconds[label if isinstance(label, str) else label()] += whole - self._inner.pop()
                self._inner[-1] += whole

        setattr(owner, method, timed)


def timed(walk: Callable[..., Iterator], into: list[float]) -> Callable[..., Iterator]:
    """A walk over batches that notes how long each took, what was done with it included."""

    def run(*args: Any) -> Iterator:
        start = time.perf_counter()
        for batch in walk(*args):
            yield batch
            now = time.perf_counter()
            into.append(now - start)
            start = now

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='a config with a search section')
    parser.add_argument('checkpoint', help='the trained supernet')
    parser.add_argument('--candidates', type=int, default=20, help='[%(default)s]')
    parser.add_argument('--chunk-size', type=int, default=0, help='candidates evaluated together; 0: all [%(default)s]')
    parser.add_argument('--rounds', type=int, default=3, help='how often all of them are evaluated [%(default)s]')
    parser.add_argument('--threads', type=int, default=1, help='[%(default)s]')
    add_output(parser, 'one_shot_candidate.json')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cfg = Config.fromfile(args.config)
    cfg.launcher = 'none'
    fit_to_machine(cfg)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = build_model(cfg)
        model.load_state_dict(load_checkpoint_file(args.checkpoint)['state_dict'])
        plan = SearchPlan(cfg.search)
        evaluator: Any = plan.evaluator
        evaluator.setup(plan.space, model, plan.seed)
        evaluator.chunk_size = args.chunk_size
        paths = plan.space.sample_many(np.random.default_rng(0), args.candidates)
        list(evaluator.evaluate(paths[:1]))  # loads the images, once for the whole search
        clock = Clock()
        phase = ''

        def label(text: str) -> Callable[[], str]:
            return lambda: f'{phase}: {text}'

        def begin(name: str) -> None:
            nonlocal phase
            phase = name

        for name, method, text in PARTS:
            if hasattr(model, name) and hasattr(getattr(model, name), method):
                clock.watch(getattr(model, name), method, label(text))
        for owner, method in ((dense_boxes, '_predict'), (roi_boxes, '_propose'), (roi_boxes, '_classify')):
            clock.watch(owner, method, label('boxes from heads (decoding, NMS)'))
        clock.watch(path_tree, '_run', label('backbone'))
        clock.watch(evaluator.metric, 'process', label("metric's input"))
        clock.watch(evaluator.metric, 'compute_metrics', label('metric'))
        for method, name in (('_recalibrate', 'recalibration'), ('_score', 'evaluation')):
            clock.watch(evaluator, method, f'{name}: other')
            original = getattr(evaluator, method)
            setattr(evaluator, method, lambda *a, run=original, name=name, **k: (begin(name), run(*a, **k))[1])
        batches: dict[str, list[float]] = dict(calibration=[], evaluation=[])
        for part, name in ((evaluator.calibration, 'calibration'), (evaluator.batches, 'evaluation')):
            part.walk = timed(part.walk, batches[name])
        rows, whole, metric = [], [], []
        for _ in range(args.rounds):
            clock.seconds.clear()
            start = time.perf_counter()
            metric += [evaluation.time['metric'] for evaluation in evaluator.evaluate(paths)]
            whole.append((time.perf_counter() - start) / len(paths))
            rows.append({name: seconds / len(paths) for name, seconds in clock.seconds.items()})
    median = statistics.median(whole)
    parts = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    lines = [
        dict(part=name, ms=1000 * seconds, share=f'{seconds / median:.0%}')
        for name, seconds in sorted(parts.items(), key=lambda part: -part[1])
    ]
    print(table(lines))
    images = f'{len(evaluator.calibration.indices)} + {len(evaluator.batches.indices)} images'
    together = args.chunk_size or args.candidates
    each = {name: [taken / together for taken in seconds] for name, seconds in batches.items()}
    write_json(
        args.out,
        dict(seconds=whole, parts=parts, images=images, config=args.config, batches=each | dict(metric=metric)),
    )
    how = f'{together} together' if args.chunk_size != 1 else 'one at a time'
    print(f'{median:.3f} s a candidate ({how}; {images}; median of {args.rounds} rounds; {args.threads} thread(s))')


if __name__ == '__main__':
    main()
