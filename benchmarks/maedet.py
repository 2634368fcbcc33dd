"""Measures speed and results of MAE-DET: scores of published nets, scoring, evolution and exact search.

Four tables: published structures (and ResNet-50 encoded as one: its max-pool becomes the stride of its first block);
structures scored per second, as arrays and, as in the authors' first release, by a forward pass of noise through a
built net; the evolution at ResNet-50's budget (188e8 FLOPs in the authors' count at 480x480, 91 layers, their space)
over seeds; and exact search at that budget and at those of the published nets. Rates are in wall time, measured in
turn; searches are timed in processor time, which other programs hardly affect.

Example:
  OMP_NUM_THREADS=1 python benchmarks/maedet.py     # five minutes on 1 core
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch
from common import add_output, interleave, spread, table, write_json

from detnas_mm import zoo
from detnas_mm.search import Budget, Constraint, Ledger, Objective, PopulationEvolution, SearchJob
from detnas_mm.systems.mae_det import (
    EntropyScore,
    MAEDetNet,
    MAEDetSpace,
    StructureFlops,
    StructureLayers,
    StructureMacs,
    StructureParams,
)
from detnas_mm.systems.mae_det.entropy import WEIGHTS
from detnas_mm.systems.mae_det.entropy_forward import forward_entropy
from detnas_mm.systems.mae_det.exact import solve
from detnas_mm.systems.mae_det.structure import RESNET50

FOUND = ('maedet-s', 'maedet-m', 'maedet-l')
STRUCTURES = {name: name for name in (*FOUND, 'maedet-init')} | {'ResNet-50': RESNET50}
BUDGET = dict(flops=188e8, layers=91)


def published() -> list[dict]:
    """Returns score and costs of every published structure."""
    costs = dict(params=StructureParams(), macs=StructureMacs(), flops=StructureFlops(), layers=StructureLayers())
    return [
        dict(structure=name, entropy=f'{EntropyScore().score(arch):.4f}')
        | {key: int(cost.total(arch)) for key, cost in costs.items()}
        for name, arch in STRUCTURES.items()
    ]


def rates(rounds: int) -> list[dict]:
    """Measures structures scored per second."""
    space = MAEDetSpace('authors')
    codes = space.sample_codes(np.random.default_rng(0), 200_000)
    chunks = np.array_split(codes, 25)
    few = space.decode(codes[:1000])
    plain, borders, flops = EntropyScore(), EntropyScore(input_size=480), StructureFlops(space)

    def authors() -> None:
        """Builds a net, draws its weights, and runs a forward pass of noise at 64x64."""
        with torch.device('meta'):
            net = MAEDetNet('maedet-s')
        forward_entropy(net.to_empty(device='cpu'), WEIGHTS[1:], 64, repeats=1)

    rivals = {
        'closed form, arrays': (len(codes), lambda: [plain.score_codes(chunk) for chunk in chunks]),
        'closed form, one at a time': (len(few), lambda: [plain.score(arch) for arch in few]),
        'with borders at 480, arrays': (8000, lambda: borders.score_codes(chunks[0])),
        'FLOPs, arrays': (len(codes), lambda: [flops.totals(chunk) for chunk in chunks]),
        'noise through MAE-DET-S, once, 64x64': (1, authors),
    }
    seconds = interleave({name: run for name, (_, run) in rivals.items()}, rounds)
    rows = {name: spread([number / s for s in seconds[name]]) for name, (number, _) in rivals.items()}
    slowest = rows['noise through MAE-DET-S, once, 64x64']['median']
    return [
        {'way': name, 'a second': rate['median'], 'min': rate['min'], 'max': rate['max']}
        | {'ratio': rate['median'] / slowest}
        for name, rate in rows.items()
    ]


def evolution(seeds: int) -> list[dict]:
    """Returns the best of 100,000 candidates by seed."""
    space = MAEDetSpace('authors')
    costs = dict(flops=StructureFlops(space), layers=StructureLayers(space))
    budget = Budget(space, costs, [Constraint(name, high=high) for name, high in BUDGET.items()])
    rows = []
    for seed in range(seeds):
        start = time.process_time()
        strategy, evaluator = PopulationEvolution(start=['maedet-init']), EntropyScore()
        job = SearchJob(
            space, [Objective('entropy')], budget, strategy, evaluator, generations=10, seed=seed,
            log=lambda text: None, show_progress=False,
        )  # fmt: skip
        job.prepare()
        best = strategy.run(evaluator, Ledger(None, job.header()))[0]
        seconds = time.process_time() - start
        value = f'{best.metrics["entropy"]:.4f}'
        rows.append({'seed': seed, 'best': value, 'CPU seconds': seconds, 'a second': 100_000 / seconds})
    return rows


def exact(nets: Sequence[str]) -> list[dict]:
    """Returns best, bound and time for ResNet-50's budget, then for those of the given published nets."""
    authors, relaxed = MAEDetSpace('authors'), MAEDetSpace('relaxed')
    jobs: list[tuple[str, MAEDetSpace, dict[str, float]]] = [
        ('ResNet-50: flops, layers', authors, BUDGET),
        ('ResNet-50: flops, layers, params', authors, BUDGET | dict(params=23.5e6)),
    ]
    for name in nets:
        net = zoo.get(name)
        limits = dict(flops=StructureFlops().total(name), layers=net.layers, params=net.params)
        jobs.append((f'{name}: flops, layers, params', relaxed, limits))
    rows = []
    for what, space, limits in jobs:
        kinds = dict(flops=StructureFlops, layers=StructureLayers, params=StructureParams)
        score = EntropyScore().block_sum((2, *space.strides))
        start = time.process_time()
        found = solve(space, score, {name: (kinds[name](space), limit) for name, limit in limits.items()})
        seconds = time.process_time() - start
        rows.append(
            {'budget': what, 'best': f'{found.value:.4f}', 'bound': f'{found.bound:.4f}'}
            | {'gap %': 100 * found.gap, 'programs': found.iterations, 'CPU seconds': seconds}
            | {'structure': space.describe(space.decode(found.genes[None])[0])}
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=5, help='[%(default)s]')
    parser.add_argument('--seeds', type=int, default=5, help='[%(default)s]')
    parser.add_argument(
        '--nets', nargs='+', choices=FOUND, default=FOUND, help='nets at whose budgets to run exact search [all three]'
    )
    add_output(parser, 'maedet.json')
    args = parser.parse_args()
    result = {}
    for name, rows in (
        ('published', published()), ('rates', rates(args.rounds)), ('evolution', evolution(args.seeds)),
        ('exact', exact(args.nets)),
    ):  # fmt: skip
        result[name] = rows
        print(f'\n{table(rows)}')
    write_json(args.out, dict(benchmark='maedet', rounds=args.rounds, **result))


if __name__ == '__main__':
    main()
