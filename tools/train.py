#!/usr/bin/env python
"""Trains a supernet or a fixed net; with a search config, runs the search."""

from detnas_mm.cli import add_check_images, one_line_errors, parser

EPILOG = """
examples:
  python tools/train.py configs/digits/detnas-digits_supernet_cls.py
  python tools/train.py CONFIG --resume            # from the last checkpoint in the work dir, if there is one
  python tools/train.py CONFIG --check-images      # reads every image once; does not train
  bash tools/dist_train.sh CONFIG 8
"""


def main() -> None:
    args_parser = parser(__doc__, EPILOG)
    args_parser.add_argument('--amp', action='store_true', help='train with mixed precision (GPU)')
    args_parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate to the batch size')
    args_parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='resume from this checkpoint; without a value, from the last one in the work dir, or, if there is none, '
        'start as without --resume',
    )
    add_check_images(args_parser)
    args = args_parser.parse_args()

    from detnas_mm.engine.config import read_config  # after the arguments: it loads torch

    if args.check_images:
        from detnas_mm.engine.every_image import check_every_image

        check_every_image(read_config(args), ['train', 'val', 'test'])
        return

    from detnas_mm.engine.launch import run
    from detnas_mm.engine.resume import resume

    cfg = read_config(args)
    if args.amp:
        if not cfg.get('optim_wrapper'):
            raise SystemExit(
                f'error: --amp needs an optim_wrapper, which {args.config} does not have, since it does not train. '
                f'Leave out --amp.'
            )
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        cfg.setdefault('auto_scale_lr', {})['enable'] = True
        if 'base_batch_size' not in cfg.auto_scale_lr:
            raise SystemExit(
                f'error: --auto-scale-lr needs auto_scale_lr.base_batch_size, which {args.config} does not set.'
            )
    if args.resume and 'search' in cfg and cfg.get('train_cfg', {}).get('max_epochs') == 0:
        raise SystemExit('error: a search always resumes from the ledger in its work dir; leave out --resume.')
    if args.resume:
        resume(cfg, None if args.resume == 'auto' else args.resume, args.trust_checkpoint)
    run(cfg, args.trust_checkpoint)


if __name__ == '__main__':
    one_line_errors(main)
