#!/usr/bin/env python
"""Computes entropy, multiply-adds, parameters and latency of a backbone of any registry."""

import argparse
from pathlib import Path

from detnas_mm.cli import at_least_1, one_line_errors, override, read_file
from detnas_mm.compat import require
from detnas_mm.errors import DetNASError, library_errors
from detnas_mm.options import Options
from detnas_mm.terminal import doing

EPILOG = """
Entropy is that of MAE-DET (Sun et al., ICML 2022), measured by forward passes of noise: of every feature map that the
backbone returns, and as weighted sum. Compare it only between nets of one family with equal budgets.
Latency is that of one image on this machine, with random weights: the median over the rounds.

examples:
  python tools/analysis_tools/score_backbone.py configs/mae_det/maedet-s_gfl_coco.py
  python tools/analysis_tools/score_backbone.py configs/mae_det/resnet50-control_gfl_coco.py --input-size 480 480
  python tools/analysis_tools/score_backbone.py mmdet.ResNet --cfg-options depth=50 --threads 1
  python tools/analysis_tools/score_backbone.py mmpretrain.MobileNetV2 --device cuda
"""


def read(text: str, options: dict) -> tuple[dict, str | None]:
    """Returns the backbone's config and its default scope."""
    from mmengine.registry import MODELS

    if Path(text).is_file():
        cfg = read_file(text)
        override(cfg, options)
        if 'backbone' not in cfg.get('model', {}):
            raise DetNASError(f'{text} has no model.backbone. Give the config of a model with a backbone.')
        return cfg.model.backbone, cfg.get('default_scope')
    scope, dot, _ = text.partition('.')
    if not dot or '/' in text or MODELS.get(text) is None:
        raise DetNASError(
            f'{text!r} is neither a config file nor the type of a registered backbone with its scope, such as '
            f'mmdet.ResNet, mmpretrain.MobileNetV2 or detnas_mm.MAEDetNet.'
        )
    return dict(options, type=text), scope


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'backbone', help='the config of a model with a backbone, or the type of a backbone, such as mmdet.ResNet'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=Options, default={}, metavar='KEY=VALUE',
        help='overrides of the config, or arguments of the type',
    )  # fmt: skip
    parser.add_argument(
        '--input-size', type=int, nargs=2, default=(224, 224), metavar=('HEIGHT', 'WIDTH'), help='default: 224 224'
    )  # fmt: skip
    parser.add_argument(
        '--weights', type=float, nargs='+',
        help='one weight per feature map; default: 0 1 1 6 for four maps, else 1 for the last one and 0 for others',
    )  # fmt: skip
    parser.add_argument('--repeats', type=int, default=4, help='number of forward passes of noise; default: 4')
    parser.add_argument('--device', choices=['cpu', 'cuda'], help='default: cuda if there is one')
    parser.add_argument('--threads', type=at_least_1, help="CPU threads; default: torch's choice")
    parser.add_argument('--rounds', type=int, default=10, help='rounds of measuring latency; default: %(default)s')
    args = parser.parse_args()
    require('mmengine')

    import torch
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import MODELS, DefaultScope

    from detnas_mm.compat import cuda_usable
    from detnas_mm.cost.count import count_macs, count_params
    from detnas_mm.latency.device import describe_device, device_text
    from detnas_mm.latency.inputs import settled
    from detnas_mm.latency.measure import measure_nets
    from detnas_mm.latency.stopwatch import stopwatch
    from detnas_mm.latency.timing import Pace, spread
    from detnas_mm.models import image_channels
    from detnas_mm.registry import building
    from detnas_mm.search import counted
    from detnas_mm.systems.mae_det.entropy import checked_weights
    from detnas_mm.systems.mae_det.entropy_forward import map_entropies

    if args.threads:
        torch.set_num_threads(args.threads)
    size = f'{args.input_size[0]}x{args.input_size[1]}'
    device = args.device or ('cuda' if cuda_usable() else 'cpu')
    pace = Pace(args.rounds)
    weights = args.weights and checked_weights(args.weights)
    cfg, scope = read(args.backbone, args.cfg_options)
    with DefaultScope.overwrite_default_scope(scope), building(f'{cfg.get("type")} cannot be built'):
        backbone = MODELS.build(cfg)
    backbone = revert_sync_batchnorm(backbone).to(device)
    channels = cfg.get('in_channels') or image_channels(backbone)
    with doing('running noise through the backbone'), library_errors(f'{cfg["type"]} cannot be run at {size}'):
        entropies = map_entropies(backbone, args.input_size, args.repeats, in_channels=channels)
    weights = weights or ([0, 1, 1, 6] if len(entropies) == 4 else [0] * (len(entropies) - 1) + [1])
    if len(weights) != len(entropies):
        raise DetNASError(f'--weights has {len(weights)} values for {len(entropies)} feature maps; give one per map.')
    print(f'{cfg["type"]}: {counted(count_params(backbone), "parameter")}')
    macs = count_macs(backbone, args.input_size, in_channels=channels)
    print(f'{counted(macs, "multiply-add")} of convolutions at {size}')
    linear = sum(isinstance(module, torch.nn.Linear) for module in backbone.modules())
    if linear:
        print(f'{counted(linear, "linear layer")} left out of multiply-adds and entropy')
    for number, (entropy, weight) in enumerate(zip(entropies, weights, strict=True)):
        print(f'map {number}: entropy {entropy:.4f}, weight {weight:g}')
    total = sum(entropy * weight for entropy, weight in zip(entropies, weights, strict=True))
    print(f'multi-scale entropy at {size}, mean of {args.repeats}: {total:.4f}')
    images = torch.randn(2, channels, *args.input_size, device=device)
    watch = stopwatch(device)
    with doing('measuring the latency'):
        samples, _ = measure_nets({'net': settled(backbone, images)}, {'net': [images[:1]]}, watch, pace)
    seconds = samples['net'][:, 0]
    print(f'latency of one image at {size}: {1000 * float(sorted(seconds)[len(seconds) // 2]):.2f} ms, half of '
          f'{counted(args.rounds, "round")} within {1000 * float(spread(seconds)):.2f} ms ({watch.name}; '
          f'{device_text(describe_device(device))})')  # fmt: skip


if __name__ == '__main__':
    one_line_errors(main)
