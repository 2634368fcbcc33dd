"""Measures how many candidates per second can be checked against a limit on MACs.

Compares the additive table for a whole array of candidates (``MacsTable.totals``); the same table for one candidate at
a time (``MacsTable.total``); counting the operators of the built network on meta tensors (``count_macs``, which gives
the same integers: checked here); and the method of existing implementations, to copy the network and run it once on an
image (without the cost of their counting hooks). Building networks is not timed.

Example:
  python benchmarks/macs_table.py          # a minute on 2 cores
"""

from __future__ import annotations

import argparse
import copy

import numpy as np
import torch
from common import add_output, interleave, spread, table, write_json

from detnas_mm.cost.count import count_macs
from detnas_mm.systems.detnas import DetNASNet, MacsTable


def measure(name: str, candidates: int, rounds: int) -> list[dict]:
    """Returns the rows of the result for one space; every method is timed on its own number of candidates."""
    cost = MacsTable.build(name)
    ids = cost.space.sample_ids(np.random.default_rng(0), candidates)
    singles = cost.space.sample_many(np.random.default_rng(1), 1000)
    counted = singles[:5]
    with torch.device('meta'):
        nets = [DetNASNet(arch, space=cost.space) for arch in counted]

    def count() -> list[int]:
        return [count_macs(net, cost.input_size) for net in nets]

    assert count() == [cost.total(arch) for arch in counted] == cost.totals(cost.space.encode(counted)).tolist()
    real = DetNASNet(counted[0], space=cost.space).eval()

    @torch.no_grad()
    def copy_and_run() -> None:
        copy.deepcopy(real)(torch.zeros(1, 3, *cost.input_size))

    rivals = {
        'MacsTable.totals': (candidates, lambda: cost.totals(ids)),
        'MacsTable.total': (len(singles), lambda: [cost.total(arch) for arch in singles]),
        'count_macs': (len(counted), count),
        'copy and run': (1, copy_and_run),
    }
    seconds = interleave({rival: run for rival, (_, run) in rivals.items()}, rounds)
    rates = {rival: spread([number / s for s in seconds[rival]]) for rival, (number, _) in rivals.items()}
    slowest = rates['count_macs']['median']
    return [
        {
            'space': name,
            'rival': rival,
            'candidates/s': rate['median'],
            'min': rate['min'],
            'max': rate['max'],
            'ratio': rate['median'] / slowest,
        }
        for rival, rate in rates.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--spaces', nargs='+', default=['small', 'large'], help='[small large]')
    parser.add_argument('--candidates', type=int, default=1_000_000, help='rows of the array [%(default)s]')
    parser.add_argument('--rounds', type=int, default=7, help='[%(default)s]')
    add_output(parser, 'macs_table.json')
    args = parser.parse_args()
    rows = [row for name in args.spaces for row in measure(name, args.candidates, args.rounds)]
    print('candidates a second: median, smallest and largest of', args.rounds, 'rounds in turn\n')
    print(table(rows))
    write_json(args.out, dict(benchmark='macs_table', candidates=args.candidates, rounds=args.rounds, rows=rows))


if __name__ == '__main__':
    main()
