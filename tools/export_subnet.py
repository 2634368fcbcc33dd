#!/usr/bin/env python
"""Exports any row of a search as an ordinary config and checkpoint; the best ones are exported by the search itself."""

import argparse
from pathlib import Path

from detnas_mm.cli import TRUST, one_line_errors

EPILOG = """
examples:
  python tools/export_subnet.py work_dirs/detnas-digits_search_retinanet 41d9f2c7b0aa
  python tools/export_subnet.py work_dirs/detnas-digits_search_retinanet "2|1|20|3" --checkpoint SUPERNET.pth

The weights are those of the supernet with BN statistics recalibrated for the row; tested on search-val, they give the
fitness in the ledger. Where candidates were trained, nets whose weights are kept get those; a search by entropy has
none, so only a config is written.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('work_dir', type=Path, help='folder of the search, with its ledger.jsonl')
    parser.add_argument('row', help='id or architecture of a row in the ledger')
    parser.add_argument('--checkpoint', help='the trained supernet; default: that of the search')
    parser.add_argument('--trust-checkpoint', action='store_true', help=TRUST)
    args = parser.parse_args()

    from detnas_mm.engine.export import next_commands
    from detnas_mm.engine.search import export_row  # after the arguments: it loads torch

    try:
        files = export_row(args.work_dir, args.row, args.checkpoint, args.trust_checkpoint)
    except FileNotFoundError as error:  # of the images
        raise SystemExit(f'error: {error}') from error
    print('\n'.join(next_commands(files)))


if __name__ == '__main__':
    one_line_errors(main)
