"""Compares GroupNorm of this package with torch's, in training steps of from-scratch backbones on the CPU.

Images come out of mmdet's data preprocessor channels-last in memory, and so do all feature maps. There torch's
GroupNorm is slow on a CPU; ours makes its input contiguous first.
"""

from __future__ import annotations

import argparse
import copy
import statistics

import torch
from common import add_output, interleave, table, write_json
from mmdet.models import ResNet
from torch import nn

from detnas_mm.cli import at_least_1
from detnas_mm.models import GroupNorm, StandardizedConv2d

CONV = dict(type=f'detnas_mm.{StandardizedConv2d.__name__}')
NORM = dict(type=f'detnas_mm.{GroupNorm.__name__}', requires_grad=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch', type=at_least_1, default=16, help='[%(default)s]')
    parser.add_argument('--sizes', type=at_least_1, nargs='+', default=[64, 128], help='sides of images [%(default)s]')
    parser.add_argument('--rounds', type=at_least_1, default=9, help='timed steps of each net [%(default)s]')
    add_output(parser, 'group_norm.json')
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for depth, base in ((18, 16), (34, 8), (34, 24)):
        ours = ResNet(depth, base_channels=base, norm_cfg=NORM, conv_cfg=CONV, norm_eval=False)
        theirs = copy.deepcopy(ours)
        for module in theirs.modules():
            if isinstance(module, GroupNorm):
                module.__class__ = nn.GroupNorm
        for size in args.sizes:
            images = torch.randn(args.batch, 3, size, size).contiguous(memory_format=torch.channels_last)

            def step(net: nn.Module, images: torch.Tensor = images) -> None:
                sum(out.square().mean() for out in net(images)).backward()

            seconds = interleave(
                {'torch': lambda net=theirs: step(net), 'detnas_mm': lambda net=ours: step(net)}, args.rounds
            )
            ms = {f'{name}_ms': 1000 * statistics.median(times) for name, times in seconds.items()}
            rows.append(
                dict(net=f'ResNet-{depth}, base {base}', size=size, **ms, ratio=ms['torch_ms'] / ms['detnas_mm_ms'])
            )
    print(table(rows))
    write_json(args.out, dict(rows=rows, batch=args.batch, rounds=args.rounds))


if __name__ == '__main__':
    main()
