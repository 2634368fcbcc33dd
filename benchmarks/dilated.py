#!/usr/bin/env python
"""Compares time and memory of dilated nets and supernets with their plain backbones, of equal multiply-adds.

Forward passes are in evaluation mode; training steps are forward, backward and SGD with BN in training mode. Each net
is timed with its channels in place and, if a dilation has several runs of channels, sorted. Nets are timed in turn; on
a CPU by processor time, which other programs do not affect. Peak memory of a training step, of supernets only, is that
of a separate process on a CPU, and of torch's allocator on a GPU.

Example:
  python benchmarks/dilated.py --sizes 800x1088 --rounds 3
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import add_output, table, write_json

from detnas_mm import zoo
from detnas_mm.registry import MODELS
from detnas_mm.systems.nats import DilationSpace
from detnas_mm.systems.nats.sorting import sort_channels

R50 = dict(type='mmdet.ResNet', depth=50, norm_eval=False, frozen_stages=1)
R101 = dict(R50, depth=101)
X101 = dict(type='mmdet.ResNeXt', depth=101, groups=32, base_width=4, norm_eval=False, frozen_stages=1)
SMALL = dict(R50, base_channels=8)
#: Upper limits of ratios by (net, pass, channels).
AIMS = {
    ('NATS R50', 'forward', 'in place'): 1.15,
    ('NATS R50', 'forward', 'sorted'): 1.06,
    ('NATS R50', 'training', 'in place'): 1.45,
    ('NATS R50', 'training', 'sorted'): 1.3,
    ('NATS R101', 'forward', 'in place'): 1.15,
    ('NATS R101', 'forward', 'sorted'): 1.06,
    ('NATS X101-32x4d', 'forward', 'sorted'): 1.1,
    ('IC-Conv R50', 'forward', 'in place'): 1.5,
    ('IC-Conv R101', 'forward', 'in place'): 1.5,
    ('supernet R50', 'training', 'mixture'): 3.0,
}


def dilated(plain: dict, text: str) -> dict:
    """Returns the config of a dilated net."""
    return dict(plain, type='detnas_mm.DilatedBackbone', plain=plain['type'], genotypes=text, channel_order='arbitrary')


def of_nats(plain: dict, **groups: int) -> dict[str, dict]:
    """Returns configs of the plain net and of random NATS genotypes, in place and sorted."""
    space = DilationSpace(plain, **groups)
    text = space.describe(space.sample(np.random.default_rng(0)))
    done = sort_channels(plain, text, MODELS.build(plain).state_dict(), space.stages)
    nets = {'in place': text, 'sorted': done.genotypes}
    return dict(plain=plain, **{name: dict(dilated(plain, one), stages=space.stages) for name, one in nets.items()})


def of_ic_conv(plain: dict, name: str) -> dict[str, dict]:
    """Returns configs of the plain net and of a published pattern; all stages are trained."""
    plain = dict(plain, frozen_stages=-1)
    return {'plain': plain, 'in place': dilated(plain, zoo.get(name).arch)}


def supernet(plain: dict) -> dict[str, dict]:
    """Returns configs of the plain net and of the mixture of all genotypes, without and with recomputation."""
    mixture = dict(plain, type='detnas_mm.DilatedSupernet', plain=plain['type'], mixture=True)
    return dict(plain=plain, mixture=mixture) | {'mixture, with_cp': dict(mixture, with_cp=True)}


#: Functions by name that return the configs of a plain net and of its dilated ones.
NETS: dict[str, Callable[[], dict[str, dict]]] = {
    'NATS R50': lambda: of_nats(R50),
    'NATS R101': lambda: of_nats(R101, channels_per_group=32),
    'NATS X101-32x4d': lambda: of_nats(X101),
    'IC-Conv R50': lambda: of_ic_conv(R50, 'ic-resnet50-detection'),
    'IC-Conv R101': lambda: of_ic_conv(R101, 'ic-resnet101-detection'),
    'supernet R50': lambda: supernet(R50),
    'NATS small': lambda: of_nats(SMALL),
    'supernet small': lambda: supernet(SMALL),
}


def forward_of(net: torch.nn.Module, images: torch.Tensor) -> Callable[[], Any]:
    """Returns a function that runs a forward pass."""

    def run() -> None:
        net.eval()
        with torch.no_grad():
            net(images)

    return run


def step_of(net: torch.nn.Module, images: torch.Tensor) -> Callable[[], Any]:
    """Returns a function that runs a training step."""
    optimizer = torch.optim.SGD([one for one in net.parameters() if one.requires_grad], lr=1e-4, momentum=0.9)

    def run() -> None:
        net.train()
        optimizer.zero_grad()
        sum(out.square().mean() for out in net(images)).backward()
        optimizer.step()

    return run


def seconds_of(rivals: dict[str, Callable[[], Any]], rounds: int, cuda: bool) -> dict[str, list[float]]:
    """Times functions in turn, each round starting with another one; by processor time on a CPU, wall time on a GPU."""
    clock = time.perf_counter if cuda else time.process_time
    names, found = list(rivals), {name: [] for name in rivals}
    for run in rivals.values():
        run()
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            torch.cuda.synchronize() if cuda else None
            start = clock()
            rivals[name]()
            torch.cuda.synchronize() if cuda else None
            found[name].append(clock() - start)
    return found


def measure(name: str, size: tuple[int, int], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns the rows of one net at one size."""
    configs = NETS[name]()
    nets = {rival: MODELS.build(dict(cfg)).to(args.device) for rival, cfg in configs.items()}
    images = torch.randn(args.batch, 3, *size, device=args.device)
    rows = []
    for what, make in (('forward', forward_of), ('training', step_of)):
        if what not in args.what:
            continue
        cuda = args.device.startswith('cuda')
        seconds = seconds_of({rival: make(net, images) for rival, net in nets.items()}, args.rounds, cuda)
        for rival in list(nets)[1:]:
            ratios = [a / b for a, b in zip(seconds[rival], seconds['plain'], strict=True)]
            rows.append(
                dict(
                    net=name,
                    size=f'{size[0]}x{size[1]}',
                    what=what,
                    channels=rival,
                    plain_ms=1000 * statistics.median(seconds['plain']),
                    ms=1000 * statistics.median(seconds[rival]),
                    ratio=statistics.median(ratios),
                    aim=AIMS.get((name, what, rival), '-'),
                )
            )
    return rows


def peak_mb(cfg: dict, size: tuple[int, int], batch: int, device: str) -> float:
    """Returns the peak memory in MB of a net and a training step of it: of this process, or of a GPU."""
    torch.set_num_threads(1)
    MODELS.build(dict(cfg))  # imports the needed modules
    Path('/proc/self/clear_refs').write_text('5')  # resets the peak
    before = most_kb()
    step_of(MODELS.build(dict(cfg)).to(device), torch.randn(batch, 3, *size, device=device))()
    return torch.cuda.max_memory_allocated() / 2**20 if device.startswith('cuda') else (most_kb() - before) / 1024


def most_kb() -> int:
    """Returns the peak memory of this process."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith('VmHWM:'))


def memory_rows(name: str, size: tuple[int, int], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns the peak memory of a training step of one net and of its plain backbone."""
    found = {}
    for rival, cfg in NETS[name]().items():
        with multiprocessing.get_context('spawn').Pool(1) as pool:  # one process each: its memory never shrinks
            found[rival] = pool.apply(peak_mb, (cfg, size, args.batch, args.device))
    return [
        dict(net=name, size=f'{size[0]}x{size[1]}', channels=rival, plain_mb=found['plain'], mb=mb)
        | dict(ratio=mb / found['plain'])
        for rival, mb in found.items()
        if rival != 'plain'
    ]


def size_of(text: str) -> tuple[int, int]:
    """Reads ``'800x1088'``: height and width."""
    height, width = text.split('x')
    return int(height), int(width)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    real = [name for name in NETS if 'small' not in name]
    parser.add_argument('--nets', nargs='+', choices=list(NETS), default=real, help=f'{real}')
    sizes = [(224, 224), (800, 1088)]
    parser.add_argument('--sizes', nargs='+', type=size_of, default=sizes, metavar='HxW', help='[224x224 800x1088]')
    parser.add_argument('--what', nargs='+', choices=['forward', 'training', 'memory'])
    parser.add_argument('--batch', type=int, default=1, help='[%(default)s]')
    parser.add_argument('--rounds', type=int, default=5, help='[%(default)s]')
    parser.add_argument('--device', default='cpu', help='[%(default)s]')
    parser.add_argument('--threads', type=int, default=1, help='[%(default)s]')
    add_output(parser, 'dilated.json')
    args = parser.parse_args()
    args.what = args.what or ['forward', 'training', 'memory']
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rows, memory = [], []
    for size in args.sizes:
        for name in args.nets:
            rows += measure(name, size, args)
            if 'memory' in args.what and name.startswith('supernet'):
                memory += memory_rows(name, size, args)
    for found in filter(None, (rows, memory)):
        print(table(found))
    write_json(args.out, dict(rows=rows, memory=memory, settings={k: str(v) for k, v in vars(args).items()}))


if __name__ == '__main__':
    main()
