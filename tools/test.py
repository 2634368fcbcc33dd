#!/usr/bin/env python
"""Tests a checkpoint on the test set of a config."""

from detnas_mm.cli import one_line_errors, parser, typed

EPILOG = """
examples:
  python tools/test.py work_dirs/search/best/rank1_c8882097cb56.py work_dirs/search/best/rank1_c8882097cb56.pth
  python tools/test.py CONFIG CHECKPOINT --show-dir pictures     # draws the predictions on every image
  bash tools/dist_test.sh CONFIG CHECKPOINT 8
"""


def main() -> None:
    args_parser = parser(__doc__, EPILOG)
    args_parser.add_argument('checkpoint', help='the checkpoint to test')
    args_parser.add_argument('--show-dir', help='folder for all images with the predictions drawn on them')
    args = args_parser.parse_args()

    from detnas_mm.engine.config import read_config  # after the arguments: it loads torch
    from detnas_mm.engine.launch import test
    from detnas_mm.engine.pictures import draw_into

    cfg = read_config(args)
    if cfg.get('test_dataloader') is None:
        raise SystemExit(
            f'error: {args.config} has no test_dataloader. A supernet cannot be tested, only its subnets: search, '
            f'export a row by {typed("export_subnet.py", "FOLDER", "ID")}, and test the exported net.'
        )
    cfg.load_from = args.checkpoint
    if args.show_dir:
        draw_into(cfg, args.show_dir)
    test(cfg, args.trust_checkpoint)


if __name__ == '__main__':
    one_line_errors(main)
