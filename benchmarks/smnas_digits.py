r"""SM-NAS on Digits: does the search in two stages find a better front than random search of as many detectors?

By seed, every detector trained alike (from random weights, 300 steps, one thread) and judged on search-val:

  two stages   14 structural candidates, then 12 modular ones that begin with stage 1's front
  random       as many detectors as those two stages have trained, drawn at random from the structural space
  by hand      three detectors that a person would try first, as marks

Fronts are compared by hypervolume above mAP 0 and below the slowest detector of all; seconds of training say how equal
the cost was. All latencies are measured on this machine and kept in one file, so leave it quiet while they are. A
search that was stopped resumes.

Examples:
  python benchmarks/smnas_digits.py                         # three seeds; about 50 minutes a seed on 2 quiet cores
  python benchmarks/smnas_digits.py --seeds 1
  python benchmarks/smnas_digits.py --smallest --work-dir /tmp/try          # does it run at all?
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common import add_output, table, write_json

ROOT = Path(__file__).parents[1]
STRUCTURAL, MODULAR = (ROOT / f'configs/digits/smnas-digits_{stage}.py' for stage in ('structural', 'modular'))
#: What a person would try first.
BY_HAND = [
    '96x96/resnet18-16/fpn-p1-p3-48/none/retinanet',
    '96x96/resnet18-16/fpn-p1-p3-48/rpn/faster',
    '128x128/resnet34-16/fpn-p1-p4-48/rpn/cascade2',
]
SMALL_SET = dict(num_train=60, num_search_val=20, num_test=20, num_cls_train=10, num_cls_search_val=10, num_cls_test=10)
SMALLEST = {
    'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2, 'train_dataloader.batch_size': 2,
    'search.evaluator.trials': 0, 'search.costs.latency.pace.rounds': 2,
}  # fmt: skip


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/smnas_digits'), help='[%(default)s]')
    parser.add_argument('--seeds', type=int, default=3, help='[%(default)s]')
    parser.add_argument('--workers', type=int, default=2, help='trainings side by side, a thread each [%(default)s]')
    parser.add_argument('--smallest', action='store_true', help='a few steps, images and nets: does it run at all?')
    add_output(parser, 'smnas_digits.json')
    return parser.parse_args()


def search(config: Path, folder: Path, seed: int, args: argparse.Namespace, **more: Any) -> None:
    """Runs a search by the command that a user would type, or resumes it; a finished one is not repeated."""
    options = {
        'randomness.seed': seed,
        'search.evaluator.workers.count': args.workers,
        'search.costs.latency.file': str(args.work_dir / 'latency.json'),
    } | more | (SMALLEST if args.smallest else {})  # fmt: skip
    words = [f'{key}={value}' for key, value in options.items()]
    command = [sys.executable, str(ROOT / 'tools/search.py'), str(config), '--work-dir', str(folder)]
    with open(args.work_dir / f'{folder.parent.name}_{folder.name}.txt', 'a') as out:
        subprocess.run(
            [*command, '--seed', str(seed), '--cfg-options', *words], check=True, stdout=out, stderr=subprocess.STDOUT
        )


def few(args: argparse.Namespace, population: int) -> dict[str, Any]:
    """Settings of evolution with small generations, for the smallest run."""
    if not args.smallest:
        return {}
    return {
        'search.strategy.population': population, 'search.strategy.parents': 1, 'search.budget.generations': 1,
        'search.strategy.mutation': population, 'search.strategy.crossover': 0,
    }  # fmt: skip


def of_seed(args: argparse.Namespace, seed: int) -> dict[str, Path]:
    """Runs all searches of a seed; returns their folders by name."""
    from detnas_mm.search import read_ledger

    root = args.work_dir / f'seed{seed}'
    folders = {name: root / name.replace(' ', '_') for name in ('structural', 'modular', 'random', 'by hand')}
    search(STRUCTURAL, folders['structural'], seed, args, **few(args, 2))
    best = folders['structural'] / 'best.json'
    modules = {'search.strategy.population': 2, 'search.budget.generations': 1} if args.smallest else {}
    search(MODULAR, folders['modular'], seed, args, **{'search.space.seeds.file': str(best)}, **modules)
    count = sum(len(read_ledger(folders[name] / 'ledger.jsonl')[1]) for name in ('structural', 'modular'))
    drawn = {'search.strategy': f"dict(_delete_=True, type='RandomStrategy', population={count})"}
    search(STRUCTURAL, folders['random'], seed, args, **drawn, **{'search.budget.generations': 1})
    hand = {'search.strategy': f"dict(_delete_=True, type='ListStrategy', archs={BY_HAND})"}
    search(STRUCTURAL, folders['by hand'], seed, args, **hand, **{'search.budget.generations': 1})
    return folders


def volumes(seeds: Iterable[dict[str, Path]]) -> list[dict[str, Any]]:
    """Hypervolume, seconds of training and size of the front, by seed and rival; all above one reference point."""
    from detnas_mm.search.fronts import Stage, common_objectives, joint_front, reference_point, volume

    rivals = {'two stages': ('structural', 'modular'), 'stage 1': ('structural',), 'random': ('random',)}
    read = [{name: Stage.read(folder, name) for name, folder in folders.items()} for folders in seeds]
    objectives = common_objectives([stage for one in read for stage in one.values()])
    reference = reference_point([row for one in read for stage in one.values() for row in stage.records], objectives)
    rows = []
    for seed, one in enumerate(read):
        for rival, names in rivals.items():
            joint = joint_front([one[name] for name in names], objectives)
            trained = [row for name in names for row in one[name].records]
            rows.append(
                dict(
                    seed=seed, rival=rival, detectors=len(trained), failed=sum(not row.ok for row in trained),
                    seconds=sum(sum(row.time.values()) for row in trained), front=len(joint.front),
                    best_mAP=max(objectives[0].value(row) for _, row in joint.front),
                    hypervolume=volume([row for _, row in joint.rows], objectives, reference),
                )
            )  # fmt: skip
    return rows


def draw(folders: dict[str, Path], picture: Path) -> None:
    """Draws the fronts of a seed by the command that a user would type; the detectors by hand are marks."""
    from detnas_mm.search import read_ledger

    _, rows = read_ledger(folders['by hand'] / 'ledger.jsonl')
    marks = [{'name': row.arch} | row.metrics | row.costs for row in rows if row.ok]
    file = picture.with_suffix('.json')
    file.write_text(json.dumps(marks))
    searches = [str(folders[name]) for name in ('random', 'structural', 'modular')]
    tool = [sys.executable, str(ROOT / 'tools/analysis_tools/fronts.py'), *searches]
    tool += ['--apart', 'random', '--marks', str(file)]
    subprocess.run([*tool, '--draw', str(picture), '--unit', 'ms', '--pruning'], check=True)


def main() -> None:
    args = parse_args()
    from detnas_mm.datasets.digits import make_digits

    args.work_dir = args.work_dir.resolve()
    make_digits(args.work_dir / 'digits', **(SMALL_SET if args.smallest else {}))
    os.environ['DETNAS_DIGITS'] = str(args.work_dir / 'digits')
    found: list[dict[str, Path]] = []
    for seed in range(args.seeds):
        found.append(of_seed(args, seed))
        draw(found[-1], args.work_dir / f'fronts_seed{seed}.png')
        rows = volumes(found)
        print(table(rows))
    print(table(summary(rows)))
    write_json(args.out, dict(rows=rows, by_hand=BY_HAND, smallest=args.smallest))


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds by rival."""
    out = []
    for rival in dict.fromkeys(row['rival'] for row in rows):
        values = [row['hypervolume'] for row in rows if row['rival'] == rival]
        sd = statistics.stdev(values) if len(values) > 1 else 0.0
        out.append(dict(rival=rival, seeds=len(values), hypervolume=statistics.mean(values), sd=sd))
    return out


if __name__ == '__main__':
    main()
