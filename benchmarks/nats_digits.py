r"""Compares searched dilations of NATS on Digits with plain, random and permuted ones.

Nets of one space (8 groups per convolution, ResNet-50 of 8 base channels), each trained with the same recipe in the
slim RetinaNet from the same pre-trained plain backbone, and tested:

  plain       dilation 1 everywhere
  random      random genotypes for every group (five nets per seed)
  gradient    found by gradient
  shuffled    the found net with the groups of each convolution permuted: shows whether their order matters
  evolution   found by evolution over a supernet of single paths, trained for as many iterations
  mixture     found by evolution over the supernet of the search by gradient
  EDO         genotypes of least representation error, one per channel, from a supernet with 9x9 kernels
  EDO, own pre-training; plain, pre-trained twice as long     show the effect of EDO's two pre-trainings

Every finished job is a file in the work folder; run again, the script resumes with the missing ones.

Examples:
  python benchmarks/nats_digits.py                             # 96x96, three seeds; about 50 minutes on 2 quiet cores
  python benchmarks/nats_digits.py --size 192 --heights 0.07 0.8 --work-dir work_dirs/nats_digits_192   # C5 of 6x6
  python benchmarks/nats_digits.py --smallest --work-dir /tmp/try                              # a smoke test
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from common import add_output, table, write_json

from detnas_mm import files

CONFIGS = Path(__file__).parents[1] / 'configs/digits'
#: Iterations of trainings: on crops, of single paths, of a net; and the number of random nets.
STEPS = dict(crops=500, paths=500, net=600, random=5)
SMALLEST = dict(crops=4, paths=4, net=4, random=1)
SMALL_SET = dict(
    num_train=160, num_search_val=40, num_test=40, num_cls_train=300, num_cls_search_val=100, num_cls_test=100
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/nats_digits'), help='[%(default)s]')
    parser.add_argument('--size', type=int, default=96, help='side of the images in pixels [%(default)s]')
    parser.add_argument(
        '--heights', nargs=2, type=float, metavar=('LOW', 'HIGH'),
        help='heights of the digits, as fractions of the side; default: those of make_digits.py',
    )  # fmt: skip
    parser.add_argument('--seeds', type=int, default=3, help='number of seeds [%(default)s]')
    parser.add_argument('--first-seed', type=int, default=0, help='first of the seeds [%(default)s]')
    parser.add_argument('--processes', type=int, default=2, help='parallel jobs, one thread each [%(default)s]')
    parser.add_argument('--smallest', action='store_true', help='run a few iterations on a few images, as a smoke test')
    add_output(parser, 'nats_digits.json')
    return parser.parse_args()


# -- jobs, each in its own process ------------------------------------------------------------------------------------


def job(folder: Path, kind: str, **settings: Any) -> Any:
    """Runs a job, unless its result exists; returns the result."""
    done = folder / 'result.json'
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / 'out.txt', 'w') as out, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            files.write_json(done, JOBS[kind](folder, **settings))
    return json.loads(done.read_text())


def configured(config: str | Path, folder: Path, changes: Mapping[str, Any]) -> Any:
    """Returns a config of this package for Digits with the changes of the experiment."""
    import torch
    from mmengine.config import Config

    torch.set_num_threads(1)
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(dict(changes))
    cfg.work_dir = str(folder)
    return cfg


def pretrained(checkpoint: str) -> dict[str, Any]:
    """Returns the ``init_cfg`` that initialises a backbone with the weights of a classifier."""
    return {'model.backbone.init_cfg': dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.')}


def train(
    folder: Path, name: str, steps: int, changes: Mapping[str, Any], config: str | None = None, test: bool = False
) -> dict[str, Any]:
    """Trains with a config of this package or of a search; optionally tests."""
    from detnas_mm.engine import launch

    cfg = configured(config or CONFIGS / f'{name}.py', folder, changes)
    cfg.train_cfg.max_iters = steps
    cfg.default_hooks.checkpoint.interval = steps
    launch.run(cfg)
    checkpoint = str(folder / f'iter_{steps}.pth')
    if not test:
        return dict(checkpoint=checkpoint)
    cfg.load_from = checkpoint
    return dict(checkpoint=checkpoint, mAP=launch.test(cfg).get('coco/bbox_mAP', 0.0))


def search(folder: Path, name: str, checkpoint: str | None, changes: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Runs a search with a config of this package; returns the text of the best net."""
    from detnas_mm.engine import launch

    launch.search(configured(CONFIGS / f'{name}.py', folder, changes), checkpoint, seed)
    (best, *_) = json.loads((folder / 'best.json').read_text())
    last = folder / 'last_checkpoint'  # for a search by gradient
    checkpoint = last.read_text() if last.exists() else None
    return dict(genotypes=best['arch'], config=str(folder / best['config']), checkpoint=checkpoint)


JOBS: dict[str, Callable[..., Any]] = dict(train=train, search=search)


# -- the experiment ---------------------------------------------------------------------------------------------------


def run(pool: ProcessPoolExecutor, jobs: Mapping[str, tuple[Path, dict[str, Any]]]) -> dict[str, Any]:
    """Runs independent jobs in parallel; returns their results by name."""
    futures = {name: pool.submit(job, folder, **settings) for name, (folder, settings) in jobs.items()}
    results = {}
    for name, future in futures.items():
        results[name] = future.result()
        print(f'{name}: {results[name]}'[:160], flush=True)
    return results


def of_seed(pool: ProcessPoolExecutor, root: Path, seed: int, steps: Mapping[str, int]) -> dict[str, list[float]]:
    """Runs all searches and trainings of one seed; returns test mAPs by kind of net."""
    folder = root / f'seed{seed}'
    own = {'randomness.seed': seed}
    few = {} if steps is not SMALLEST else FEW

    def training(where: str, name: str, number: int, **more: Any) -> tuple[Path, dict[str, Any]]:
        return folder / where, dict(kind='train', name=name, steps=number) | dict(changes=own) | more

    crops = steps['crops']
    begun = run(
        pool,
        dict(
            plain=training('pretrain', 'edo-digits_net_cls', crops),
            longer=training('pretrain_longer', 'edo-digits_net_cls', 2 * crops),
            enlarged=training('enlarged', 'edo-digits_supernet_cls', crops),
        ),
    )
    own_start = own | pretrained(begun['plain']['checkpoint'])
    halves = dict(own_start, **few.get('gradient', {}))
    found = run(
        pool,
        {
            'gradient': (
                folder / 'gradient',
                dict(kind='search', name='nats-digits_search_retinanet', checkpoint=None, changes=halves, seed=seed),
            ),
            'paths': training('paths', 'nats-digits_supernet-paths_retinanet', steps['paths'], changes=own_start),
            'EDO': (
                folder / 'edo',
                dict(
                    kind='search', name='edo-digits_search_cls', checkpoint=begun['enlarged']['checkpoint'],
                    changes=own | few.get('EDO', {}), seed=seed,
                ),
            ),
        },
    )  # fmt: skip
    jobs = dict(own=training('edo_pretrain', '', crops, config=found['EDO']['config']))
    for name, supernet in dict(evolution='paths', mixture='gradient').items():
        settings = dict(
            kind='search', name=f'nats-digits_search-{name}_retinanet', checkpoint=found[supernet]['checkpoint'],
            changes=dict(own, **few.get('evolution', {})), seed=seed,
        )  # fmt: skip
        jobs[name] = folder / name, settings
    found |= run(pool, jobs)
    nets = {'plain': '1x1', **{f'random {n}': text for n, text in enumerate(random_nets(seed, steps['random']))}}
    nets |= {name: found[name]['genotypes'] for name in ('gradient', 'evolution', 'mixture', 'EDO')}
    nets['shuffled'] = shuffled(found['gradient']['genotypes'], seed)
    starts = dict.fromkeys(nets, begun['plain']['checkpoint'])
    nets |= {'EDO, own pre-training': found['EDO']['genotypes'], 'plain, pre-trained longer': '1x1'}
    starts |= {
        'EDO, own pre-training': found['own']['checkpoint'],
        'plain, pre-trained longer': begun['longer']['checkpoint'],
    }
    trained = run(
        pool,
        {
            name: training(
                f'net_{name.replace(", ", "_").replace(" ", "_")}', 'nats-digits_net_retinanet', steps['net'],
                changes=own | pretrained(starts[name]) | dilated(text, name), test=True,
            )
            for name, text in nets.items()
        },
    )  # fmt: skip
    maps: dict[str, list[float]] = {}
    for name, result in trained.items():
        maps.setdefault(name.rstrip('0123456789 '), []).append(result['mAP'])
    return maps


def dilated(text: str, name: str) -> dict[str, Any]:
    """Returns the settings of a net with these dilations; EDO's apply to all stages."""
    stages = [f'layer{n}' for n in range(1 if name.startswith('EDO') else 2, 5)]
    return {'model.backbone.genotypes': text, 'model.backbone.stages': stages}


def space() -> Any:
    """Returns the space of all nets except EDO's."""
    from detnas_mm.systems.nats import DilationSpace

    return DilationSpace(dict(type='mmdet.ResNet', depth=50, base_channels=8), groups=8)


def random_nets(seed: int, count: int) -> list[str]:
    """Draws random nets."""
    own, rng = space(), np.random.default_rng(seed)
    return [own.describe(own.sample(rng)) for _ in range(count)]


def shuffled(text: str, seed: int) -> str:
    """Returns the same net with the groups of every convolution permuted."""
    own, rng = space(), np.random.default_rng(seed)
    genes = own.genes(own.parse(text))
    return own.describe(own.parse([gene for conv in genes for gene in rng.permutation(conv).tolist()]))


#: Changes of the searches in the smallest run.
FEW: dict[str, dict[str, Any]] = dict(
    gradient={
        'train_dataloader.dataset.indices': 80, 'train_cfg.alpha_dataloader.dataset.indices': -80,
        'train_cfg.max_epochs': 2, 'custom_hooks.1.calibration.num_images': 40,
    },
    EDO={'search.evaluator.num_images': 100},
    evolution={
        'search.strategy.population': 2, 'search.strategy.parents': 1, 'search.strategy.mutation': 1,
        'search.strategy.crossover': 1, 'search.budget.generations': 1,
        'search.evaluator.calibration.num_images': 40, 'model.test_cfg.score_thr': 0.0,
    },
)  # fmt: skip


def main() -> None:
    args = parse_args()
    from detnas_mm.datasets.digits import make_digits

    steps = SMALLEST if args.smallest else STEPS
    make_digits(
        args.work_dir / 'digits', image_size=args.size, heights=args.heights, **(SMALL_SET if args.smallest else {})
    )
    os.environ.update(
        OMP_NUM_THREADS='1', TQDM_DISABLE='1', DETNAS_DIGITS=str((args.work_dir / 'digits').resolve()),
        DETNAS_DIGITS_SIZE=str(args.size),
    )  # fmt: skip
    maps: list[dict[str, list[float]]] = []
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(args.processes, mp_context=context) as pool:
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            maps.append(of_seed(pool, args.work_dir.resolve(), seed, steps))
            report(maps, args)


def report(maps: list[dict[str, list[float]]], args: argparse.Namespace) -> None:
    """Prints means over seeds, and how many random nets the found one beats; writes all values."""
    rows = []
    for name in maps[0]:
        means = [statistics.mean(one[name]) for one in maps]
        row = dict(net=name, mAP=statistics.mean(means), sd=statistics.stdev(means) if len(means) > 1 else 0.0)
        rows.append(row | {f'seed {seed}': value for seed, value in enumerate(means, args.first_seed)})
    print(table(sorted(rows, key=lambda row: -row['mAP'])))
    for seed, one in enumerate(maps, args.first_seed):
        beaten = sum(one['gradient'][0] > value for value in one['random'])
        print(f'seed {seed}: the net found by gradient is better than {beaten} of {len(one["random"])} random ones')
    settings = dict(size=args.size, heights=args.heights, steps=SMALLEST if args.smallest else STEPS)
    write_json(args.out, dict(maps=maps, settings=settings))


if __name__ == '__main__':
    main()
