"""Converts a checkpoint of MAE-DET's authors (alibaba/lightweight-neural-architecture-search) to detnas_mm."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

EPILOG = """\
Takes backbones and whole detectors (then with --backbone-only). The structure is read off keys and shapes and is
written, with the config of the backbone, to the file's meta:
  python -c "import torch; print(torch.load('DST', weights_only=True)['meta'])"

DST holds a backbone (stem.*, blocks.*):
  backbone=dict(type='detnas_mm.MAEDetNet', arch='maedet-s', init_cfg=dict(type='Pretrained', checkpoint='DST'))

examples:
  python tools/model_converters/tinynas_to_detnas_mm.py maedet_s.pth checkpoints/maedet-s.pth --backbone-only
  python tools/model_converters/tinynas_to_detnas_mm.py mine.pth mine_backbone.pth --strides 2 2 2 2 1 2
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', metavar='SRC', type=Path, help="the authors' checkpoint")
    parser.add_argument('dst', metavar='DST', type=Path, help='file to write')
    parser.add_argument('--backbone-only', action='store_true', help='leave out neck and detection heads')
    parser.add_argument(
        '--strides', type=int, nargs='+', choices=[1, 2], metavar='STRIDE',
        help='of the stem and of every super-block, for nets that are not published; weights do not tell them',
    )  # fmt: skip
    parser.add_argument(
        '--trust-pickle',
        action='store_true',
        help='read a file that holds more than plain tensors; this runs whatever code the file brings along',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace DST if it exists')
    args = parser.parse_args()
    if args.dst.exists() and not args.overwrite:
        sys.exit(f'{parser.prog}: {args.dst} exists; give --overwrite to replace it.')

    import torch

    from detnas_mm.models.convert_common import load_checkpoint
    from detnas_mm.models.convert_tinynas import convert

    try:
        converted = convert(load_checkpoint(args.src, args.trust_pickle), args.strides, args.backbone_only)
        args.dst.parent.mkdir(parents=True, exist_ok=True)
        # Written beside and renamed, so that no half-written checkpoint is ever found under this name.
        with tempfile.TemporaryDirectory(prefix='.convert-', dir=args.dst.parent) as folder:
            torch.save(dict(meta=converted.meta, state_dict=converted.state_dict), Path(folder, 'checkpoint'))
            os.replace(Path(folder, 'checkpoint'), args.dst)
    except (OSError, ValueError) as error:
        sys.exit(f'{parser.prog}: {error}')

    if converted.dropped:
        print(f'Left out {len(converted.dropped)} tensors of other parts.')
    name = f' ({converted.meta["name"]})' if converted.meta['name'] else ''
    print(f'{args.dst}: {converted.meta["arch"]}{name}, {len(converted.state_dict)} tensors')
    init_cfg = dict(type='Pretrained', checkpoint=str(args.dst))
    print(f'as a backbone: {dict(converted.meta["backbone"], init_cfg=init_cfg)}')


if __name__ == '__main__':
    main()
