#!/usr/bin/env python
"""Runs an architecture search; run again on the same folder, it goes on where it stopped."""

from detnas_mm.cli import one_line_errors, parser

EPILOG = """
examples:
  python tools/search.py configs/digits/detnas-digits_search_retinanet.py SUPERNET.pth
  python tools/search.py CONFIG CHECKPOINT --work-dir work_dirs/search --cfg-options search.budget.generations=5
  python tools/search.py configs/mae_det/maedet_search_gfl_coco.py       # a score that needs no training: no checkpoint
  bash tools/dist_search.sh CONFIG CHECKPOINT 8

The folder then holds ledger.jsonl (a row for every candidate, or snapshots of a population), best.json, best/ (ordinary
configs and, from a supernet, weights of the best), progress.png and, of exact searches, certificate.json. The last
lines printed are the next commands to type.
"""


def main() -> None:
    args_parser = parser(__doc__, EPILOG)
    args_parser.add_argument('checkpoint', nargs='?', help='the trained supernet, where the evaluator needs one')
    args_parser.add_argument('--seed', type=int, help='seed of the search; default: the one of the config')
    args = args_parser.parse_args()

    from detnas_mm.engine.config import read_config  # after the arguments: it loads torch
    from detnas_mm.engine.launch import search

    search(read_config(args), args.checkpoint, args.seed, args.trust_checkpoint)


if __name__ == '__main__':
    one_line_errors(main)
