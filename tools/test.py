#!/usr/bin/env python
"""Tests a checkpoint on the test set of a config."""

from detnas_mm.cli import one_line_errors, parser

EPILOG = """
examples:
  python tools/test.py work_dirs/search/best/rank1_c8882097cb56.py work_dirs/search/best/rank1_c8882097cb56.pth
  bash tools/dist_test.sh CONFIG CHECKPOINT 8
"""


def main() -> None:
    args_parser = parser(__doc__, EPILOG)
    args_parser.add_argument('checkpoint', help='weights to test')
    args = args_parser.parse_args()

    from detnas_mm.engine.config import read_config  # after the arguments: it loads torch
    from detnas_mm.engine.inputs import check_inputs
    from detnas_mm.engine.launch import build_runner

    cfg = read_config(args)
    if cfg.get('test_dataloader') is None:
        raise SystemExit(
            f'error: {args.config} has no test set. A supernet has no one path to be tested on: search, or export a '
            f'row of a search by: python tools/export_subnet.py FOLDER ID, and test what it writes.'
        )
    cfg.load_from = args.checkpoint
    check_inputs(cfg, args.trust_checkpoint, ['test'])
    build_runner(cfg).test()


if __name__ == '__main__':
    one_line_errors(main)
