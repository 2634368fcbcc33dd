"""Converts a checkpoint of IC-Conv's authors to the keys of the plain backbone; the order of channels is kept."""

from typing import Any

from _converter import convert_file, converter_parser

from detnas_mm.search.text import counted

EPILOG = """\
Converts backbones, classifiers and whole detectors (with --backbone-only). The published pattern of dilations is
inferred from the numbers of channels. The pattern and the config of the backbone are written to the file's meta, from
which DilatedBackbone reads that the weights are in the pattern's order:
  python -c "import torch; print(torch.load('DST', weights_only=True)['meta'])"

Content and use of DST:
  source without classifier, or --backbone-only: a backbone (conv1.*, layer1.*, …)
      backbone=dict(type='detnas_mm.DilatedBackbone', plain='mmdet.ResNet', depth=50, style='pytorch',
                    genotypes='ic-resnet50-detection', init_cfg=dict(type='Pretrained', checkpoint='DST'))
  source with classifier: an mmpretrain classifier (backbone.*, head.fc.*), for load_from; and in a detector
      init_cfg=dict(type='Pretrained', checkpoint='DST', prefix='backbone.')

examples:
  python tools/model_converters/convert_ic_conv.py ic_r50_det.pth.tar checkpoints/ic-resnet50-detection.pth
  python tools/model_converters/convert_ic_conv.py mine.pth backbone.pth --backbone-only --genotypes '42:1x1+…|…'
"""


def main() -> None:
    parser = converter_parser(__doc__, EPILOG, 'classifier, neck and detection heads')
    parser.add_argument(
        '--genotypes', metavar='TEXT',
        help='the pattern, as a published name or as a text; required if the pattern is not a published one',
    )  # fmt: skip
    args = parser.parse_args()

    def convert_state(source: Any) -> Any:
        from detnas_mm.systems.nats.convert_ic_conv import convert  # after the arguments: it loads torch

        return convert(source, args.genotypes, args.backbone_only)

    converted = convert_file(parser, args, convert_state)
    meta = converted.meta
    if converted.dropped:
        print(f'Left out {counted(len(converted.dropped), "tensor")} of other parts.')
    classes = f', {meta["num_classes"]:,} classes' if meta['num_classes'] else ''
    name = meta['name'] or 'a pattern that is not published'
    print(f'{args.dst}: {name}, {counted(len(converted.state_dict), "tensor")}{classes}')
    init_cfg = dict(type='Pretrained', checkpoint=str(args.dst))
    if meta['prefix']:
        init_cfg['prefix'] = meta['prefix']
        print(f'as a classifier: load_from = {str(args.dst)!r}')
    print(f'as a backbone:   {dict(meta["backbone"], init_cfg=init_cfg)}')


if __name__ == '__main__':
    main()
