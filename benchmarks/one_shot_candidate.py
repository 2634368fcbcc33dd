#!/usr/bin/env python
"""Measures seconds per candidate of the one-shot evaluation, by part.

Candidates are random paths of the search's space, evaluated together as a generation of a search, or one at a time with
``--chunk-size 1``. The time of a part excludes that of inner parts with their own row; "other" is the rest: copying
batches from the cache, setting statistics. The seconds of every batch are written, too: benchmarks/scaling.py simulates
many workers with them.

Example:
  python benchmarks/one_shot_candidate.py configs/digits/detnas-digits_search_retinanet.py \
      work_dirs/detnas-digits_supernet_retinanet/iter_2000.pth
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from common import add_output, table, write_json
from mmengine.config import Config
from mmengine.registry import DefaultScope

from detnas_mm.checkpoints import load_checkpoint_file
from detnas_mm.evaluators.detection import dense_boxes, roi_boxes
from detnas_mm.evaluators.one_shot import path_tree
from detnas_mm.evaluators.temporary import replaced
from detnas_mm.models import build_model
from detnas_mm.search import SearchJob

#: Attribute path of a part below the model, its method, its row in the table. Parts that do not exist are skipped.
PARTS = [
    ('data_preprocessor', 'forward', 'images to floats'),
    ('neck', 'forward', 'neck'),
    ('bbox_head', 'forward', 'head'),
    ('bbox_head', 'predict_by_feat', 'boxes from head (decoding, NMS)'),
    ('rpn_head', 'forward', 'RPN'),
    ('rpn_head', 'predict_by_feat', 'proposals (decoding, NMS)'),
    ('rpn_head', 'loss_by_feat', 'loss of the RPN'),
    ('roi_head', 'predict', 'RoI head (RoIAlign, head, decoding, NMS)'),
    ('roi_head', 'loss', 'RoI head and its loss'),
    ('head', 'forward', 'head'),
]


class Clock:
    """Sums the time of functions by label, excluding that of labelled functions inside them.

    Args:
        device: Device of the functions; a GPU is synchronised, so that time is attributed to its cause.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds: Counter[str] = Counter()
        self.on = False
        self._wait = torch.cuda.synchronize if device.type == 'cuda' else lambda: None
        self._inner = [0.0]

    def now(self) -> float:
        """Returns the time in seconds after synchronising the device."""
        self._wait()
        return time.perf_counter()

    def watch(self, owner: Any, method: str, label: str | Callable[[], str]) -> AbstractContextManager[None]:
        """Temporarily replaces a method by one that is timed while the clock is on."""
        original = getattr(owner, method)

        @functools.wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if not self.on:
                return original(*args, **kwargs)
            self._inner.append(0.0)
            start = self.now()
            try:
                return original(*args, **kwargs)
            finally:
                whole = self.now() - start
                self.seconds[label if isinstance(label, str) else label()] += whole - self._inner.pop()
                self._inner[-1] += whole

        return replaced(owner, method, timed)


def timed(walk: Callable[..., Iterator], into: list[float]) -> Callable[..., Iterator]:
    """Iterates over batches and records the seconds that each took, including its processing."""

    def run(*args: Any) -> Iterator:
        start = time.perf_counter()
        for batch in walk(*args):
            yield batch
            now = time.perf_counter()
            into.append(now - start)
            start = now

    return run


def measure(
    cfg: Config, model: torch.nn.Module, candidates: int, chunk_size: int = 0, rounds: int = 3
) -> dict[str, Any]:
    """Evaluates random paths and measures the times of its parts.

    Args:
        cfg: Config of a search.
        model: Its supernet, on the device to use.
        candidates: Number of candidates.
        chunk_size: Candidates evaluated together; 0 for all.
        rounds: Number of evaluations of all candidates to time the whole, and again as many to time the parts.

    Returns:
        JSON-ready, in seconds: ``seconds`` per candidate in each round; ``parts`` per candidate by name; ``batches``:
        per candidate and batch of ``calibration`` and ``evaluation``, and per candidate of ``metric``; ``loading`` of
        all images once; and ``images`` and ``batch_sizes`` of both.
    """
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        job = SearchJob.from_config(cfg)
        evaluator: Any = job.evaluator
        evaluator.setup(job, model)
        evaluator.chunk_size = chunk_size
        paths = job.space.sample_many(np.random.default_rng(0), candidates)
        sets = dict(calibration=evaluator.calibration, evaluation=evaluator.batches)
        loading = {name: seconds_of(lambda one=one: list(one.walk(range(len(one))))) for name, one in sets.items()}
        list(evaluator.evaluate(paths))  # warm-up: memory, and on a GPU the choice of algorithms for every shape
        clock = Clock(next(model.parameters()).device)
        batches: dict[str, list[float]] = dict(calibration=[], evaluation=[], metric=[])
        for name, one in sets.items():
            one.walk = timed(one.walk, batches[name])
        whole, rows = [], []
        with watched(clock, evaluator, model):
            for _ in range(rounds):
                start = clock.now()
                batches['metric'] += [evaluation.time['metric'] for evaluation in evaluator.evaluate(paths)]
                whole.append((clock.now() - start) / candidates)
            kept = {name: list(seconds) for name, seconds in batches.items()}
            clock.on = True
            for _ in range(rounds):
                clock.seconds.clear()
                list(evaluator.evaluate(paths))
                rows.append({name: seconds / candidates for name, seconds in clock.seconds.items()})
    together = chunk_size or candidates
    return dict(
        seconds=whole,
        parts={name: statistics.median(row[name] for row in rows) for name in rows[0]},
        batches={
            name: seconds if name == 'metric' else [taken / together for taken in seconds]
            for name, seconds in kept.items()
        },
        loading=loading,
        images={name: len(one.indices) for name, one in sets.items()},
        batch_sizes={name: one.batch_size for name, one in sets.items()},
    )


@contextlib.contextmanager
def watched(clock: Clock, evaluator: Any, model: Any) -> Iterator[None]:
    """Times the parts of an evaluation with a clock."""
    phase = ''

    def label(text: str) -> Callable[[], str]:
        return lambda: f'{phase}: {text}'

    def beginning(name: str, run: Callable) -> Callable:
        def begin(*args: Any, **kwargs: Any) -> Any:
            nonlocal phase
            phase = name
            return run(*args, **kwargs)

        return begin

    parts = [
        (getattr(model, name), method, text)
        for name, method, text in PARTS
        if hasattr(model, name) and hasattr(getattr(model, name), method)
    ]
    for owner, method in ((dense_boxes, '_predict'), (roi_boxes, '_propose'), (roi_boxes, '_classify')):
        parts.append((owner, method, 'boxes from heads (decoding, NMS)'))
    parts += [
        (path_tree, '_run', 'backbone'),
        (evaluator.metric, 'process', "metric's input"),
        (evaluator.metric, 'compute_metrics', 'metric'),
    ]
    phases = [(evaluator.calibration, 'recalibrate', 'recalibration'), (evaluator, '_score', 'evaluation')]
    with contextlib.ExitStack() as stack:
        for owner, method, text in parts:
            stack.enter_context(clock.watch(owner, method, label(text)))
        for owner, method, name in phases:
            stack.enter_context(clock.watch(owner, method, f'{name}: other'))
            stack.enter_context(replaced(owner, method, beginning(name, getattr(owner, method))))
        yield


def seconds_of(run: Callable[[], Any]) -> float:
    """Returns the seconds that a function takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def print_parts(found: dict[str, Any]) -> None:
    """Prints the parts of a candidate's time, largest first."""
    whole = sum(found['parts'].values())
    lines = sorted(found['parts'].items(), key=lambda part: -part[1])
    print(table([dict(part=name, ms=1000 * taken, share=f'{taken / whole:.0%}') for name, taken in lines]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='a config with a search section')
    parser.add_argument('checkpoint', help='the trained supernet')
    parser.add_argument('--candidates', type=int, default=20, help='[%(default)s]')
    parser.add_argument('--chunk-size', type=int, default=0, help='candidates evaluated together; 0: all [%(default)s]')
    parser.add_argument('--rounds', type=int, default=3, help='number of evaluations of all of them [%(default)s]')
    parser.add_argument('--threads', type=int, default=1, help='[%(default)s]')
    add_output(parser, 'one_shot_candidate.json')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cfg = Config.fromfile(args.config)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = build_model(cfg)
    model.load_state_dict(load_checkpoint_file(args.checkpoint)['state_dict'])
    found = measure(cfg, model, args.candidates, args.chunk_size, args.rounds)
    print_parts(found)
    write_json(args.out, dict(found, config=args.config))
    together = args.chunk_size or args.candidates
    how = f'{together} together' if args.chunk_size != 1 else 'one at a time'
    images = ' + '.join(map(str, found['images'].values()))
    print(
        f'{statistics.median(found["seconds"]):.3f} s a candidate ({how}; {images} images; median of {args.rounds} '
        f'rounds; {args.threads} thread(s)); the parts were timed in as many more rounds'
    )


if __name__ == '__main__':
    main()
