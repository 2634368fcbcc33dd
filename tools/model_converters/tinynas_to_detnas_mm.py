"""Converts a checkpoint of MAE-DET's authors (alibaba/lightweight-neural-architecture-search) to detnas_mm."""

from typing import Any

from _converter import convert_file, converter_parser

from detnas_mm.search.text import counted

EPILOG = """\
Converts backbones and whole detectors (with --backbone-only). The structure is inferred from keys and shapes and
written, with the config of the backbone, to the file's meta:
  python -c "import torch; print(torch.load('DST', weights_only=True)['meta'])"

DST contains a backbone (stem.*, blocks.*):
  backbone=dict(type='detnas_mm.MAEDetNet', arch='maedet-s', init_cfg=dict(type='Pretrained', checkpoint='DST'))

examples:
  python tools/model_converters/tinynas_to_detnas_mm.py maedet_s.pth checkpoints/maedet-s.pth --backbone-only
  python tools/model_converters/tinynas_to_detnas_mm.py mine.pth mine_backbone.pth --strides 2 2 2 2 1 2
"""


def main() -> None:
    parser = converter_parser(__doc__, EPILOG, 'neck and detection heads')
    parser.add_argument(
        '--strides', type=int, nargs='+', choices=[1, 2], metavar='STRIDE',
        help='strides of the stem and of every super-block; required for nets that are not published, since weights do '
        'not show them',
    )  # fmt: skip
    args = parser.parse_args()

    def convert_state(source: Any) -> Any:
        from detnas_mm.systems.mae_det.convert_tinynas import convert  # after the arguments: it loads torch

        return convert(source, args.strides, args.backbone_only)

    converted = convert_file(parser, args, convert_state)
    if converted.dropped:
        print(f'Left out {counted(len(converted.dropped), "tensor")} of other parts.')
    name = f' ({converted.meta["name"]})' if converted.meta['name'] else ''
    print(f'{args.dst}: {converted.meta["arch"]}{name}, {counted(len(converted.state_dict), "tensor")}')
    init_cfg = dict(type='Pretrained', checkpoint=str(args.dst))
    print(f'as a backbone: {dict(converted.meta["backbone"], init_cfg=init_cfg)}')


if __name__ == '__main__':
    main()
