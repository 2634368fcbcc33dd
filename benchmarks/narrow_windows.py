"""Measures how near evolution comes to the known optimum in narrow windows of FLOPs.

MAE-DET's search at ResNet-50's budget (at most 188e8 FLOPs in the authors' count at 480x480 and 91 layers; their space,
100,000 candidates) with also a lower bound on FLOPs, in ever narrower windows. The optimum that exact search proves
without a lower bound has 18,796,194,000 FLOPs and is in all windows. Times are processor seconds.

Example:
  OMP_NUM_THREADS=1 python benchmarks/narrow_windows.py     # five minutes on 1 core
"""

from __future__ import annotations

import argparse
import time

from common import add_output, table, write_json

from detnas_mm.search import Budget, Constraint, Ledger, Objective, PopulationEvolution, SearchJob
from detnas_mm.systems.mae_det import EntropyScore, MAEDetSpace, StructureFlops, StructureLayers

HIGH = 188e8
LOWS = (0.0, 150e8, 180e8, 187e8, 187.9e8)
#: The optimum that exact search proves (benchmarks/maedet.py).
OPTIMUM = 2096.8485


def search(low: float, seed: int, generations: int, candidates: int) -> dict:
    """Returns a row of the table."""
    space = MAEDetSpace('authors')
    costs = dict(flops=StructureFlops(space), layers=StructureLayers(space))
    budget = Budget(space, costs, [Constraint('flops', low, HIGH), Constraint('layers', high=91)])
    strategy, evaluator = PopulationEvolution(candidates=candidates), EntropyScore()
    lines: list[str] = []
    job = SearchJob(
        space, [Objective('entropy')], budget, strategy, evaluator, generations=generations, seed=seed,
        log=lines.append, show_progress=False,
    )  # fmt: skip
    start = time.process_time()
    job.prepare()
    best = strategy.run(evaluator, Ledger(None, job.header()))[0]
    entropy = best.metrics['entropy']
    return {
        'low': f'{low / 1e8:g}e8',
        'seed': seed,
        'entropy': f'{entropy:.2f}',
        'share of optimum': f'{entropy / OPTIMUM:.2%}',
        'acceptance': f'{strategy.acceptance:.1%}',
        'said to be stuck': sum(line.startswith('The search is stuck') for line in lines),
        'CPU seconds': time.process_time() - start,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--lows', type=float, nargs='+', default=LOWS, help='lower bounds of FLOPs [those of the docs]')
    parser.add_argument('--seeds', type=int, default=5, help='[%(default)s]')
    parser.add_argument('--generations', type=int, default=10, help='[%(default)s]')
    parser.add_argument('--candidates', type=int, default=10_000, help='candidates per generation [%(default)s]')
    parser.add_argument('--smallest', action='store_true', help='run one short search, as a smoke test')
    add_output(parser, 'narrow_windows.json')
    args = parser.parse_args()
    if args.smallest:
        args.lows, args.seeds, args.generations, args.candidates = [187e8], 1, 1, 256
    rows = [
        search(low, seed, args.generations, args.candidates) for low in args.lows for seed in range(args.seeds)
    ]  # fmt: skip
    print(table(rows))
    write_json(args.out, dict(benchmark='narrow_windows', generations=args.generations, rows=rows))


if __name__ == '__main__':
    main()
