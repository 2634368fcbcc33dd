#!/usr/bin/env python
"""Tests a checkpoint on the test set of a config."""

from detnas_mm.cli import one_line_errors, parser, typed

EPILOG = """
examples:
  python tools/test.py work_dirs/search/best/rank1_c8882097cb56.py work_dirs/search/best/rank1_c8882097cb56.pth
  python tools/test.py CONFIG CHECKPOINT --show-dir pictures     # a picture of every image, with what was found
  bash tools/dist_test.sh CONFIG CHECKPOINT 8
"""


def main() -> None:
    args_parser = parser(__doc__, EPILOG)
    args_parser.add_argument('checkpoint', help='weights to test')
    args_parser.add_argument('--show-dir', help='folder for pictures of all images with what the net predicts')
    args = args_parser.parse_args()

    from detnas_mm.engine.config import read_config  # after the arguments: it loads torch
    from detnas_mm.engine.launch import test
    from detnas_mm.engine.pictures import draw_into

    cfg = read_config(args)
    if cfg.get('test_dataloader') is None:
        raise SystemExit(
            f'error: {args.config} has no test set. A supernet has no one path to be tested on: search, or export a '
            f'row of a search by: {typed("export_subnet.py", "FOLDER", "ID")}, and test what it writes.'
        )
    cfg.load_from = args.checkpoint
    if args.show_dir:
        draw_into(cfg, args.show_dir)
    test(cfg, args.trust_checkpoint)


if __name__ == '__main__':
    one_line_errors(main)
