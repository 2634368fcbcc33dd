r"""Compares SM-NAS's search in two stages with random search of as many detectors, on Digits.

For each seed; all detectors train alike, from random weights for 300 steps on one thread, and are tested on search-val:

  two stages   14 structural candidates, then 12 modular ones that begin with stage 1's front
  random       as many random detectors of the structural space as the two stages have trained
  inherited    the first two generations of stage 2 again, children initialised with the weights of their parents
  by hand      three hand-designed detectors, as marks

Fronts of a seed are compared by their hypervolume above mAP 0 and below the latency of the seed's slowest detector,
divided by that latency: the best mAP within a limit of time, as a mean over all limits up to the slowest detector.
Seconds of training show how equal the cost was. Latencies are measured on this machine and kept in one file: run
nothing else meanwhile. The same command resumes a benchmark that was stopped. Results are written after each seed.

Examples:
  python benchmarks/smnas_digits.py                         # three seeds; about 65 minutes a seed on 2 cores
  python benchmarks/smnas_digits.py --first-seed 1 --seeds 1
  python benchmarks/smnas_digits.py --smallest --work-dir /tmp/try          # to see that it runs
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import add_output, table, write_json

from detnas_mm.cli import at_least_1
from detnas_mm.compat import end_with_parent

ROOT = Path(__file__).parents[1]
STRUCTURAL, MODULAR = (ROOT / f'configs/digits/smnas-digits_{stage}.py' for stage in ('structural', 'modular'))
#: Detectors that a person would try first.
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
#: After two steps no score of RetinaNet passes its threshold, and a detector without boxes is a failed candidate.
ANY_SCORE = {'search.space.factors.head.retinanet.model.test_cfg.score_thr': 0.0}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/smnas_digits'), help='[%(default)s]')
    parser.add_argument('--seeds', type=at_least_1, default=3, help='number of seeds [%(default)s]')
    parser.add_argument('--first-seed', type=int, default=0, help='first of the seeds [%(default)s]')
    parser.add_argument(
        '--workers', type=at_least_1, default=2, help='trainings side by side, a thread each [%(default)s]'
    )
    parser.add_argument('--smallest', action='store_true', help='a few steps, images and nets, to see that it runs')
    add_output(parser, 'smnas_digits.json')
    return parser.parse_args()


def search(config: Path, folder: Path, seed: int, args: argparse.Namespace, **more: Any) -> None:
    """Runs or resumes a search by its command line; does not repeat a finished one."""
    options = {
        'randomness.seed': seed,
        'search.evaluator.workers.count': args.workers,
        'search.costs.latency.file': str(args.work_dir / 'latency.json'),
    } | more | (SMALLEST if args.smallest else {})  # fmt: skip
    if args.smallest and config == STRUCTURAL:
        options |= ANY_SCORE
    words = [f'{key}={value}' for key, value in options.items()]
    command = [sys.executable, str(ROOT / 'tools/search.py'), str(config), '--work-dir', str(folder)]
    log = args.work_dir / f'{folder.parent.name}_{folder.name}.txt'
    print(f'{folder.parent.name}, {folder.name}: {log}', flush=True)
    begun = time.monotonic()
    with open(log, 'a') as out:
        done = subprocess.run(
            [*command, '--seed', str(seed), '--cfg-options', *words], stdout=out, stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent,  # a search that lives on holds its ledger, and a second start is refused
        )  # fmt: skip
    print(f'{folder.parent.name}, {folder.name}: {(time.monotonic() - begun) / 60:.1f} minutes', flush=True)
    if done.returncode:
        last = log.read_text(errors='replace').strip().rpartition('\n')[2]
        raise SystemExit(f'error: the search of {folder} ended with exit code {done.returncode}; see {log}: {last}')


def few(args: argparse.Namespace) -> dict[str, Any]:
    """Returns settings of an evolution of one candidate, for the smallest run."""
    if not args.smallest:
        return {}
    return {
        'search.strategy.population': 1, 'search.strategy.parents': 1, 'search.budget.generations': 1,
        'search.strategy.mutation': 1, 'search.strategy.crossover': 0,
    }  # fmt: skip


def of_seed(args: argparse.Namespace, seed: int) -> dict[str, Path]:
    """Runs all searches of a seed; returns their folders by name."""
    from detnas_mm.search import read_ledger

    root = args.work_dir / f'seed{seed}'
    names = ('structural', 'modular', 'random', 'inherited', 'by hand')
    folders = {name: root / name.replace(' ', '_') for name in names}
    search(STRUCTURAL, folders['structural'], seed, args, **few(args))
    best = folders['structural'] / 'best.json'
    modules = {'search.space.seeds.file': str(best)}
    if args.smallest:
        modules |= {'search.strategy.population': 1, 'search.budget.generations': 2}
    search(MODULAR, folders['modular'], seed, args, **modules)
    count = sum(len(read_ledger(folders[name] / 'ledger.jsonl')[1]) for name in ('structural', 'modular'))
    drawn = {'search.strategy': f"dict(_delete_=True, type='RandomStrategy', population={count})"}
    search(STRUCTURAL, folders['random'], seed, args, **drawn, **{'search.budget.generations': 1})
    again = modules | {'search.evaluator.inherit': True, 'search.budget.generations': 2}
    search(MODULAR, folders['inherited'], seed, args, **again)
    hand = {
        'search.strategy': f"dict(_delete_=True, type='ListStrategy', archs={BY_HAND[: 1 if args.smallest else None]})"
    }
    search(STRUCTURAL, folders['by hand'], seed, args, **hand, **{'search.budget.generations': 1})
    return folders


def compare(seed: int, folders: dict[str, Path]) -> dict[str, list[dict[str, Any]]]:
    """Compares the fronts of one seed, and the effects of pruning and of inherited weights.

    Returns:
        Rows: ``fronts`` by rival, with hypervolume, seconds of training and size of the front; ``pruning``: candidates
        spared by the search and by a replay, and nets that the replay loses from the front; ``inherited``: nets
        trained with and without the weights of a parent; ``spread``: of the latencies.
    """
    from detnas_mm.search.fronts import Stage, common_objectives, joint_front, reference_point, volume
    from detnas_mm.systems.sm_nas.pruning import read_notes, replay_stage

    stages = {name: Stage.read(folder, name) for name, folder in folders.items()}
    inherited = stages.pop('inherited')
    objectives = common_objectives(list(stages.values()))
    reference = reference_point([row for stage in stages.values() for row in stage.records], objectives)
    fronts = []
    for rival, names in {
        'two stages': ('structural', 'modular'), 'stage 1': ('structural',), 'random': ('random',)
    }.items():  # fmt: skip
        joint = joint_front([stages[name] for name in names], objectives)
        if joint.left_out:
            raise SystemExit(f'error: seed {seed}: nets were trained unlike those of {names[-1]}: {joint.left_out}.')
        trained = [row for name in names for row in stages[name].records]
        fronts.append(
            dict(
                seed=seed, rival=rival, detectors=len(trained), failed=sum(not row.ok for row in trained),
                seconds=sum(sum(row.time.values()) for row in trained), front=len(joint.front),
                best_mAP=max((objectives[0].value(row) for _, row in joint.front), default=0.0),
                up_to_ms=reference[1],
                hypervolume=volume([row for _, row in joint.rows], objectives, reference) / reference[1],
            )
        )  # fmt: skip
    spared, spreads = read_notes(folders['modular'])
    effect = replay_stage(stages['modular'], objectives, spreads)
    pruning = dict(seed=seed, spared=spared, replay_spares=len(effect.spared), replay_loses=len(effect.lost))
    own = {row.arch: objectives[0].value(row) for row in stages['modular'].records if row.ok}
    pairs = [
        dict(seed=seed, own_mAP=own[row.arch], inherited_mAP=objectives[0].value(row)) | row.details['inherited']
        for row in inherited.records
        if row.ok and row.arch in own and 'inherited' in row.details
    ]
    return dict(fronts=fronts, pruning=[pruning], inherited=pairs, spread=[dict(seed=seed) | spread(folders)])


def spread(folders: dict[str, Path]) -> dict[str, Any]:
    """Returns the spread of the latencies of all detectors: interquartile range of the rounds over the median."""
    file = folders['modular'].parents[1] / 'latency.json'
    shares = []
    for machine in json.loads(file.read_text())['machines']:
        shares += [net['iqr_ms'] / net['ms'] for net in machine['nets'].values()]
    return dict(nets=len(shares), median_percent=100 * statistics.median(shares), largest_percent=100 * max(shares))


def draw(folders: dict[str, Path], picture: Path) -> None:
    """Draws the fronts of a seed by the command that a user would type, with the detectors by hand as marks."""
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
    result: dict[str, list[dict[str, Any]]] = {}
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        folders = of_seed(args, seed)
        draw(folders, args.work_dir / f'fronts_seed{seed}.png')
        for part, rows in compare(seed, folders).items():
            result.setdefault(part, []).extend(rows)
        result['summary'] = summary(result['fronts'])
        for part, rows in result.items():
            print(f'\n{part}\n{table(rows) if rows else "none"}', flush=True)
        write_json(args.out, result | dict(by_hand=BY_HAND, smallest=args.smallest))


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds by rival, and the standard deviation of the hypervolume."""
    out = []
    for rival in dict.fromkeys(row['rival'] for row in rows):
        own = [row for row in rows if row['rival'] == rival]

        def mean(name: str, own: list[dict[str, Any]] = own) -> float:
            return statistics.mean(float(row[name]) for row in own)

        volumes = [row['hypervolume'] for row in own]
        out.append(
            dict(
                rival=rival, seeds=len(own), detectors=mean('detectors'), hypervolume=mean('hypervolume'),
                sd=statistics.stdev(volumes) if len(volumes) > 1 else 0.0, best_mAP=mean('best_mAP'),
                front=mean('front'), training_hours=mean('seconds') / 3600,
            )
        )  # fmt: skip
    return out


if __name__ == '__main__':
    main()
