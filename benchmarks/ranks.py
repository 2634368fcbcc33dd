#!/usr/bin/env python
"""How much sooner is a search done by two processes than by one? For real; benchmarks/scaling.py simulates many.

Searches by ``tools/dist_search.sh`` with 1 and 2 processes in turn, one thread each. A candidate's time is that of its
ledger row, waiting for the other process and exchanging included, from the second generation on, when images are in
memory. The rows must be the same for any number of processes, which is checked.

Example:
  python benchmarks/ranks.py configs/digits/detnas-digits_search_retinanet.py \
      work_dirs/quickstart/retinanet_seed0/supernet_retinanet/iter_1200.pth
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import add_output, table, write_json

from detnas_mm.search import Record, read_ledger
from detnas_mm.search.record import VOLATILE

ROOT = Path(__file__).resolve().parents[1]


def search(args: argparse.Namespace, processes: int, folder: Path) -> list[Record]:
    """Rows of a search by so many processes."""
    changes = [
        f'search.strategy.population={args.population}',
        f'search.strategy.mutation={args.population // 2}',
        f'search.strategy.crossover={args.population - args.population // 2}',
        'search.budget.generations=3',
    ]
    subprocess.run(
        ['bash', str(ROOT / 'tools/dist_search.sh'), args.config, args.checkpoint, str(processes), '--work-dir',
         str(folder), '--cfg-options', *changes],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | dict(PYTHON=sys.executable, OMP_NUM_THREADS='1', TQDM_DISABLE='1'),
    )  # fmt: skip
    return read_ledger(folder / 'ledger.jsonl')[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of a search')
    parser.add_argument('checkpoint', help='the trained supernet')
    parser.add_argument('--processes', type=int, nargs='+', default=[1, 2], help='in turn [1 2]')
    parser.add_argument('--population', type=int, default=10, help='candidates a generation [%(default)s]')
    parser.add_argument('--rounds', type=int, default=3, help='searches of each kind [%(default)s]')
    add_output(parser, 'ranks.json')
    args = parser.parse_args()
    seconds: dict[int, list[float]] = {processes: [] for processes in args.processes}
    rows: dict[int, list[dict]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.rounds):
            for processes in args.processes:
                records = search(args, processes, Path(folder) / f'{number}_{processes}')
                later = [sum(r.time.values()) for r in records if r.generation > 0]
                seconds[processes].append(statistics.mean(later))
                rows[processes] = [{k: v for k, v in r.to_json().items() if k not in VOLATILE} for r in records]
                print(f'round {number + 1}, {processes}: {seconds[processes][-1]:.3f} s a candidate', flush=True)
    first = args.processes[0]
    alone = statistics.median(seconds[first])
    result = []
    for processes, taken in seconds.items():
        assert rows[processes] == rows[first], f'{processes} processes gave other rows than {first}'
        median = statistics.median(taken)
        result.append(
            {
                'processes': processes,
                's a candidate': median,
                'times as fast': alone / median,
                'efficiency, %': 100 * alone / median * first / processes,
            }
        )
    print('\n' + table(result) + '\n\nThe rows are the same, whatever the number of processes.')
    write_json(args.out, dict(seconds=seconds, rows=result))


if __name__ == '__main__':
    main()
