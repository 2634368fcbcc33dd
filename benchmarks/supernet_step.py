#!/usr/bin/env python
"""Compares a training step of the supernet with one of a fixed net of the same path, and times path sampling.

The fixed net is the DetNASNet of the path, which runs the same convolutions as the supernet. A step is forward, loss,
backward and optimiser step; the supernet's includes drawing and setting the path, as PathSamplingHook does.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from common import add_output, interleave, table, write_json
from mmengine.optim import OptimWrapper

from detnas_mm.engine import UniformPathSampler
from detnas_mm.models.subnet import extract_subnet
from detnas_mm.systems.detnas import DetNASSupernet


def step_of(net: torch.nn.Module, images: torch.Tensor, before=lambda: None):
    """Returns a function that runs one training step."""
    wrapper = OptimWrapper(torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=4e-5))

    def step() -> None:
        before()
        wrapper.update_params(sum(out.square().mean() for out in net(images)))

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--space', default='small', help='[%(default)s]')
    parser.add_argument('--batch', type=int, default=8, help='[%(default)s]')
    parser.add_argument('--size', type=int, default=96, help='side of the images [%(default)s]')
    parser.add_argument('--rounds', type=int, default=15, help='steps of each net per path [%(default)s]')
    parser.add_argument('--paths', type=int, default=3, help='[%(default)s]')
    add_output(parser, 'supernet_step.json')
    args = parser.parse_args()
    torch.manual_seed(0)
    images = torch.randn(args.batch, 3, args.size, args.size)
    rows = []
    for seed in range(args.paths):
        supernet = DetNASSupernet(args.space).train()
        sampler = UniformPathSampler()
        sampler.setup(supernet.space)
        path = sampler.sample(seed, 0)
        net = extract_subnet(supernet, path, dict(space=args.space))

        def set_path(supernet=supernet, sampler=sampler, seed=seed) -> None:
            supernet.set_path(sampler.sample(seed, 0))

        seconds = interleave(dict(net=step_of(net, images), supernet=step_of(supernet, images, set_path)), args.rounds)
        ratios = [a / b for a, b in zip(seconds['supernet'], seconds['net'], strict=True)]
        rows.append(
            dict(
                path=supernet.space.describe(path),
                net_ms=1000 * statistics.median(seconds['net']),
                supernet_ms=1000 * statistics.median(seconds['supernet']),
                ratio=statistics.median(ratios),
            )
        )
    ratio = statistics.median(row['ratio'] for row in rows)
    print(table(rows))
    write_json(args.out, dict(rows=rows, median_ratio=ratio, settings={k: str(v) for k, v in vars(args).items()}))
    print(f'supernet step / fixed-net step: {ratio:.3f} (median over {args.paths} paths of {args.rounds} rounds each)')


if __name__ == '__main__':
    main()
