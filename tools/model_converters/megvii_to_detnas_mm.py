"""Converts a checkpoint of the DetNAS authors' code (github.com/megvii-model/DetNAS) to detnas_mm."""

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

EPILOG = """\
Takes fixed nets and supernets, with and without classifier, from ImageNet and from detection training. Architecture
and space are read off the keys and shapes and are written, with the config of the backbone, to the file's meta:
  python -c "import torch; print(torch.load('DST', weights_only=True)['meta'])"

What DST holds, and how it is used:
  source without classifier, or --backbone-only: a backbone (stem.*, blocks.*)
      backbone=dict(type='detnas_mm.DetNASNet', arch='coco-fpn-300m',
                    init_cfg=dict(type='Pretrained', checkpoint='DST'))
  source with classifier: an mmpretrain classifier (backbone.*, head.fc.*), for load_from; and in a detector
      init_cfg=dict(type='Pretrained', checkpoint='DST', prefix='backbone.')

The authors' supernets and fixed nets deal channels in two ways (channel_split 'shuffle' and 'even_odd'); a net with
the wrong one loads and computes nonsense. A published name brings the right one along; otherwise copy it from meta.

examples:
  python tools/model_converters/megvii_to_detnas_mm.py COCO_FPN_300M.pkl checkpoints/coco-fpn-300m.pth
  python tools/model_converters/megvii_to_detnas_mm.py model_final.pth backbone.pth --backbone-only
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', metavar='SRC', type=Path, help="the authors' checkpoint")
    parser.add_argument('dst', metavar='DST', type=Path, help='file to write')
    parser.add_argument('--backbone-only', action='store_true', help='leave out classifier, neck and detection heads')
    parser.add_argument(
        '--channel-split',
        choices=['shuffle', 'even_odd'],
        help='how channels were dealt, for weights of your own training; by default shuffle for supernets and even_odd '
        "for fixed nets, as in the authors' released ones",
    )
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

    from detnas_mm.models.convert_megvii import convert, load_checkpoint

    try:
        source = load_checkpoint(args.src, args.trust_pickle)
        converted = convert(source, args.backbone_only, args.channel_split)
        args.dst.parent.mkdir(parents=True, exist_ok=True)
        # Written beside and renamed, so that no half-written checkpoint is ever found under this name.
        with tempfile.TemporaryDirectory(prefix='.convert-', dir=args.dst.parent) as folder:
            torch.save(dict(meta=converted.meta, state_dict=converted.state_dict), Path(folder, 'checkpoint'))
            os.replace(Path(folder, 'checkpoint'), args.dst)
    except (OSError, ValueError) as error:
        sys.exit(f'{parser.prog}: {error}')

    meta = converted.meta
    if converted.dropped:
        parts = Counter('.'.join(key.split('.')[:-1][:3]) for key in converted.dropped)
        print(
            f'Left out {len(converted.dropped)} tensors: ' + ', '.join(f'{part}.* ({n})' for part, n in parts.items())
        )
    kind = f'net {meta["arch"]}' + (f' ({meta["name"]})' if meta['name'] else '') if meta['arch'] else 'supernet'
    print(f'{args.dst}: {kind}, space {meta["space"]}, channel_split {meta["channel_split"]!r}, ', end='')
    print(f'{len(converted.state_dict)} tensors' + (f', {meta["num_classes"]} classes' if meta['num_classes'] else ''))
    init_cfg = dict(type='Pretrained', checkpoint=str(args.dst))
    if meta['prefix']:
        init_cfg['prefix'] = meta['prefix']
        print(f'as a classifier: load_from = {str(args.dst)!r}')
    print(f'as a backbone:   {dict(meta["backbone"], with_last_conv=False, init_cfg=init_cfg)}')


if __name__ == '__main__':
    main()
