#!/usr/bin/env python
"""Measures the speed-up of a search with two processes (benchmarks/scaling.py simulates many).

Runs searches by ``tools/dist_search.sh`` with 1 and 2 processes in turn, one thread each. Measures the time from the
last row of the first generation, when images are cached, to the last row: waiting, communication, evaluation and
writing are included, starting the processes is not. Checks that rows do not depend on the number of processes. Needs
as many idle cores as processes.

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
import time
from pathlib import Path

from common import add_output, table, write_json

from detnas_mm.search import read_ledger
from detnas_mm.search.record import VOLATILE

ROOT = Path(__file__).resolve().parents[1]
GENERATIONS = 3


def search(args: argparse.Namespace, processes: int, folder: Path) -> tuple[list[dict], float]:
    """Runs a search with so many processes; returns its rows and the seconds of the later generations."""
    changes = [
        f'search.strategy.population={args.population}',
        f'search.strategy.mutation={args.population // 2}',
        f'search.strategy.crossover={args.population - args.population // 2}',
        f'search.budget.generations={GENERATIONS}',
        f'search.evaluator.chunk_size={args.chunk}',
    ]
    ledger, log = folder / 'ledger.jsonl', folder.with_suffix('.log')
    with log.open('w') as file:
        job = subprocess.Popen(
            ['bash', str(ROOT / 'tools/dist_search.sh'), args.config, args.checkpoint, str(processes), '--work-dir',
             str(folder), '--cfg-options', *changes],
            stdout=file, stderr=subprocess.STDOUT,
            env=os.environ | dict(PYTHON=sys.executable, OMP_NUM_THREADS='1', TQDM_DISABLE='1'),
        )  # fmt: skip
        begun = ended = wait_for(job, ledger, args.population)
        if begun is not None:
            ended = wait_for(job, ledger, GENERATIONS * args.population)
    if job.wait() or begun is None or ended is None:
        raise SystemExit(
            f'error: the search by {processes} processes failed, or ended early:\n{log.read_text()[-3000:]}'
        )
    _, records = read_ledger(ledger)
    return [{k: v for k, v in r.to_json().items() if k not in VOLATILE} for r in records], ended - begun


def wait_for(job: subprocess.Popen, ledger: Path, rows: int) -> float | None:
    """Waits until a ledger has so many rows and returns the time; None if the job ended before."""
    while True:
        running = job.poll() is None
        if ledger.is_file() and ledger.read_bytes().count(b'\n') > rows:  # the first line is the header
            return time.perf_counter()
        if not running:
            return None
        time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of a search')
    parser.add_argument('checkpoint', help='the trained supernet')
    parser.add_argument('--processes', type=int, nargs='+', default=[1, 2], help='numbers of processes, in turn [1 2]')
    parser.add_argument('--population', type=int, default=10, help='candidates per generation [%(default)s]')
    parser.add_argument('--chunk', type=int, default=0, help='evaluated together; 0: a generation [%(default)s]')
    parser.add_argument('--rounds', type=int, default=3, help='searches of each kind [%(default)s]')
    add_output(parser, 'ranks.json')
    args = parser.parse_args()
    later = (GENERATIONS - 1) * args.population
    seconds: dict[int, list[float]] = {processes: [] for processes in args.processes}
    rows: dict[int, list[dict]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.rounds):
            for processes in args.processes:
                rows[processes], taken = search(args, processes, Path(folder) / f'{number}_{processes}')
                if rows[processes] != rows[args.processes[0]]:
                    raise SystemExit(f'error: {processes} processes gave other rows than {args.processes[0]}')
                seconds[processes].append(taken / later)
                print(f'round {number + 1}, {processes}: {seconds[processes][-1]:.3f} s a candidate', flush=True)
    first = args.processes[0]
    alone = statistics.median(seconds[first])
    result = []
    for processes, values in seconds.items():
        median = statistics.median(values)
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
