#!/usr/bin/env python
"""Measures the memory of evaluating several candidates together.

Each number of candidates is evaluated in a separate process, in one chunk, on the CPU. The result is the growth of the
process beyond its size after the evaluation of one candidate.

Example:
  python benchmarks/memory.py configs/digits/detnas-digits_search_retinanet.py \
      work_dirs/quickstart/retinanet_seed0/supernet_retinanet/iter_1200.pth
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from typing import Any

import numpy as np
from common import add_output, table, write_json


def grown(config: str, checkpoint: str, candidates: int) -> float:
    """Returns the growth of this process in MiB when so many candidates are evaluated together."""
    import torch
    from mmengine.config import Config
    from mmengine.registry import DefaultScope

    from detnas_mm.checkpoints import load_checkpoint_file
    from detnas_mm.models import build_model
    from detnas_mm.search import SearchJob

    torch.set_num_threads(1)
    cfg = Config.fromfile(config)
    cfg.search.evaluator.chunk_size = 0
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = build_model(cfg)
        model.load_state_dict(load_checkpoint_file(checkpoint)['state_dict'])
        job = SearchJob.from_config(cfg)
        evaluator: Any = job.evaluator
        evaluator.setup(job, model)
        paths = job.space.sample_many(np.random.default_rng(0), candidates)
        list(evaluator.evaluate(paths[:1]))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        list(evaluator.evaluate(paths))
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of a search')
    parser.add_argument('checkpoint', help='the trained supernet')
    parser.add_argument('--candidates', type=int, nargs='+', default=[2, 10, 50], help='numbers of them [2 10 50]')
    parser.add_argument('--grown', type=int, help=argparse.SUPPRESS)  # of the started processes
    add_output(parser, 'memory.json')
    args = parser.parse_args()
    if args.grown:
        print(f'\n{grown(args.config, args.checkpoint, args.grown)}')
        return
    rows = []
    for candidates in args.candidates:
        command = [sys.executable, __file__, args.config, args.checkpoint, '--grown', str(candidates)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        rows.append({'candidates together': candidates, 'MiB more than one': float(done.stdout.split()[-1])})
        print(f'{candidates}: {rows[-1]["MiB more than one"]:.1f} MiB', flush=True)
    print('\n' + table(rows))
    write_json(args.out, dict(rows=rows, config=args.config))


if __name__ == '__main__':
    main()
