#!/usr/bin/env python
"""Times loading of a ledger, compared with a bare ``json.loads`` of its lines.

Example:
  python benchmarks/ledger.py          # half a minute
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from common import add_output, interleave, spread, table, write_json

from detnas_mm.search import Ledger, Record, read_ledger


def record(index: int) -> Record:
    """Returns a row as a search writes it."""
    return Record(
        index, index // 50, f'{index:012x}', '2120|2112|33130031|3132', 'crossover', (f'{index:012x}',) * 2, 'ok', None,
        {'coco/bbox_mAP': 0.3 + index * 1e-7, 'coco/bbox_mAP_50': 0.5},
        dict(macs=300_000_000 + index, params=3_400_000),
        dict(recalibration=0.5, prediction=1.5, metric=0.3), 'host', details=dict(images=5000),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rows', type=int, default=100_000, help='number of rows [%(default)s]')
    parser.add_argument('--rounds', type=int, default=5, help='number of timings [%(default)s]')
    add_output(parser, 'ledger.json')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'ledger.jsonl'
        with Ledger(path, dict(seed=0)) as ledger:
            ledger.extend(record(index) for index in range(args.rows))
        assert read_ledger(path)[1] == [record(index) for index in range(args.rows)]
        seconds = interleave(
            {
                'this package, rows checked': lambda: read_ledger(path),
                'json.loads alone': lambda: [json.loads(line) for line in path.open()],
            },
            args.rounds,
        )
    rows = [
        dict(way=name, rows=args.rows, **{f's, {k}': v for k, v in spread(s).items()}) for name, s in seconds.items()
    ]
    print(table(rows))
    write_json(args.out, dict(seconds=seconds, rows=rows))


if __name__ == '__main__':
    main()
