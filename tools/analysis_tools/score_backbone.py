#!/usr/bin/env python
"""Entropy, multiply-adds and parameters of the backbone of any config, whatever registry it comes from."""

import argparse

from detnas_mm.cli import one_line_errors

EPILOG = """
Entropy is that of MAE-DET (Sun et al., ICML 2022), by running noise through the net: for every map that the backbone
returns, and weighted. It compares nets of one family at one budget, and says nothing of nets of different families.

examples:
  python tools/analysis_tools/score_backbone.py configs/mae_det/maedet-s_gfl_coco.py
  python tools/analysis_tools/score_backbone.py configs/mae_det/resnet50-control_gfl_coco.py --input-size 480 480
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='a config with a model that has a backbone, such as those of mmdet')
    parser.add_argument(
        '--input-size', type=int, nargs=2, default=(224, 224), metavar=('HEIGHT', 'WIDTH'), help='default: 224 224'
    )  # fmt: skip
    parser.add_argument(
        '--weights', type=float, nargs='+',
        help='one for every map that the backbone returns; default: 0 1 1 6 for four maps, else the last one alone',
    )  # fmt: skip
    parser.add_argument('--repeats', type=int, default=4, help='how often noise is run through it; default: 4')
    args = parser.parse_args()

    import torch
    from mmengine.config import Config
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import MODELS, DefaultScope

    from detnas_mm.cost.count import count_macs, count_params
    from detnas_mm.evaluators.entropy_forward import map_entropies

    try:
        cfg = Config.fromfile(args.config)
        if 'backbone' not in cfg.get('model', {}):
            raise ValueError(f'{args.config} has no model.backbone.')
        backbone_cfg = cfg.model.backbone
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope')), torch.device('meta'):
            backbone = MODELS.build(backbone_cfg)
        # Its own weights play no part, so they need not be drawn.
        backbone = revert_sync_batchnorm(backbone.to_empty(device='cpu'))
        entropies = map_entropies(backbone, args.input_size, args.repeats)
        weights = args.weights or ([0, 1, 1, 6] if len(entropies) == 4 else [0] * (len(entropies) - 1) + [1])
        if len(weights) != len(entropies):
            raise ValueError(f'{len(weights)} weights for {len(entropies)} maps; give one for each.')
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f'error: {error}') from error
    size = f'{args.input_size[0]}x{args.input_size[1]}'
    print(f'{backbone_cfg.type}: {count_params(backbone):,} parameters')
    print(f'{count_macs(backbone, args.input_size):,} multiply-adds of convolutions at {size}')
    for number, (entropy, weight) in enumerate(zip(entropies, weights, strict=True)):
        print(f'map {number}: entropy {entropy:.4f}, weight {weight:g}')
    total = sum(entropy * weight for entropy, weight in zip(entropies, weights, strict=True))
    print(f'multi-scale entropy at {size}, mean of {args.repeats}: {total:.4f}')


if __name__ == '__main__':
    one_line_errors(main)
