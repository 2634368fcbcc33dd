"""Converts a checkpoint of the DetNAS authors' code (github.com/megvii-model/DetNAS) to detnas_mm."""

from collections import Counter
from typing import Any

from _converter import convert_file, converter_parser

from detnas_mm.search.text import counted

EPILOG = """\
Converts fixed nets and supernets, with and without classifier, from ImageNet and from detection training. Architecture
and space are inferred from keys and shapes and written, with the config of the backbone, to the file's meta:
  python -c "import torch; print(torch.load('DST', weights_only=True)['meta'])"

Content and use of DST:
  source without classifier, or --backbone-only: a backbone (stem.*, blocks.*)
      backbone=dict(type='detnas_mm.DetNASNet', arch='coco-fpn-300m',
                    init_cfg=dict(type='Pretrained', checkpoint='DST'))
  source with classifier: an mmpretrain classifier (backbone.*, head.fc.*), for load_from; and in a detector
      init_cfg=dict(type='Pretrained', checkpoint='DST', prefix='backbone.')

The authors' supernets split channels by channel_split='shuffle', their fixed nets by 'even_odd'. With the wrong one a
checkpoint loads without an error and gives wrong outputs. A published name selects the right one; otherwise copy it
from meta.

examples:
  python tools/model_converters/megvii_to_detnas_mm.py COCO_FPN_300M.pkl checkpoints/coco-fpn-300m.pth
  python tools/model_converters/megvii_to_detnas_mm.py model_final.pth backbone.pth --backbone-only
"""


def main() -> None:
    parser = converter_parser(__doc__, EPILOG, 'classifier, neck and detection heads')
    parser.add_argument(
        '--channel-split',
        choices=['shuffle', 'even_odd'],
        help='how channels were split in training; default: as in the released files, shuffle for supernets and '
        'even_odd for fixed nets',
    )
    args = parser.parse_args()

    def convert_state(source: Any) -> Any:
        from detnas_mm.systems.detnas.convert_megvii import convert  # after the arguments: it loads torch

        return convert(source, args.backbone_only, args.channel_split)

    converted = convert_file(parser, args, convert_state)
    meta = converted.meta
    if converted.dropped:
        parts = Counter('.'.join(key.split('.')[:-1][:3]) for key in converted.dropped)
        named = ', '.join(f'{part}.* ({n})' for part, n in parts.items())
        print(f'Left out {counted(len(converted.dropped), "tensor")}: {named}')
    kind = f'net {meta["arch"]}' + (f' ({meta["name"]})' if meta['name'] else '') if meta['arch'] else 'supernet'
    print(f'{args.dst}: {kind}, space {meta["space"]}, channel_split {meta["channel_split"]!r}, ', end='')
    classes = f', {meta["num_classes"]:,} classes' if meta['num_classes'] else ''
    print(f'{counted(len(converted.state_dict), "tensor")}{classes}')
    init_cfg = dict(type='Pretrained', checkpoint=str(args.dst))
    if meta['prefix']:
        init_cfg['prefix'] = meta['prefix']
        print(f'as a classifier: load_from = {str(args.dst)!r}')
    print(f'as a backbone:   {dict(meta["backbone"], with_last_conv=False, init_cfg=init_cfg)}')


if __name__ == '__main__':
    main()
