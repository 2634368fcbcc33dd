#!/usr/bin/env python
"""Measures savings and errors of racing and of a surrogate, by replaying rows with full and partial evaluations.

With the ledger of a whole space, each kind of search runs with many seeds. For every generation after the first it
counts whether the ten best so far by full scores are the ten best that the search knows. The regret of racing is the
difference between the score of the best proposed net and of the best that the search knows.

With the ledger of one search without dropped candidates, racing is replayed over its generations at several
confidences; the candidates are those of the ledger.

Example (the table takes a quarter of an hour; SUPERNET.pth is the quickstart's):
  python tools/search.py configs/digits/detnas-digits_search_retinanet.py SUPERNET.pth --work-dir work_dirs/table \
      --cfg-options search.strategy="dict(_delete_=True, type='RandomStrategy', population=128)" \
      search.evaluator.racing="dict(shares=[0.1, 0.25, 0.5], keep=100000)" search.constraints=[] \
      search.budget.generations=8
  python benchmarks/racing.py work_dirs/table/ledger.jsonl
  python benchmarks/generation.py --generations 1 40 --rounds 1   # leaves 40 generations of 50, in two hours
  python benchmarks/racing.py work_dirs/generation/slim_evolution_50_200_0.25_0.5_1.0/ledger.jsonl
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import add_output, table, write_json
from scipy.stats import spearmanr

from detnas_mm.evaluators import TabularEvaluator
from detnas_mm.evaluators.one_shot.racing import judged_on
from detnas_mm.search import (
    Budget,
    Constraint,
    EvolutionStrategy,
    Ledger,
    Objective,
    RandomStrategy,
    Record,
    SearchJob,
    Strategy,
    read_ledger,
)
from detnas_mm.systems.detnas import DetNASSpace, MacsTable, ParamsTable

CONFIDENCES = (0.9, 0.95, 0.99, 0.999)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('table', type=Path, help='ledger of a whole space, or of one search')
    parser.add_argument('--macs', type=float, default=5.8e6, help='upper limit on MACs, at 96x96 [%(default)s]')
    parser.add_argument('--population', type=int, default=20, help='candidates per generation [%(default)s]')
    parser.add_argument('--generations', type=int, default=8, help='generations per search [%(default)s]')
    parser.add_argument('--seeds', type=int, default=20, help='searches of each kind [%(default)s]')
    parser.add_argument('--keep', type=int, default=10, help='number of the best that must be kept [%(default)s]')
    parser.add_argument(
        '--shares', type=float, nargs='+', action='append', metavar='SHARE',
        help='shares of search-val after which racing decides; repeatable [0.25, and 0.25 0.5]',
    )  # fmt: skip
    add_output(parser, 'racing.json')
    args = parser.parse_args()
    args.shares = args.shares or [[0.25], [0.25, 0.5]]
    return args


def ways_of_racing(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Returns settings of racing by name."""
    return {
        f'{", ".join(f"{share:.0%}" for share in shares)} at {confidence:.1%}': dict(
            shares=shares, confidence=confidence, keep=args.keep
        )
        for shares in args.shares
        for confidence in CONFIDENCES
    }


def space_of(header: dict[str, Any]) -> DetNASSpace:
    """Returns the space of a ledger."""
    spec = dict(header['space'])
    return DetNASSpace(dict(stem=spec['stem'], channels=spec['channels'], blocks=spec['blocks']))


def images_of(records: list[Record]) -> int:
    """Returns the total number of images that candidates were evaluated on."""
    return sum(judged_on(record) or 0 for record in records)


def replay_search(path: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Replays racing over the generations of one search after the first; returns what it drops and loses in each."""
    keep = settings['keep']
    header, records = read_ledger(path)
    space, objective = space_of(header), Objective(header['objectives'][0]['name'])
    evaluator = TabularEvaluator(str(path), settings)
    evaluator.setup(SearchJob(space, [objective], Budget(space, {})))
    known: list[Record] = []
    outcomes = []
    for generation in range(max(r.generation for r in records) + 1):
        mine = [r for r in records if r.generation == generation]
        evaluator.observe(known)
        for record, seen in zip(mine, evaluator.evaluate([space.parse(r.arch) for r in mine]), strict=True):
            known.append(replace(record, status=seen.status, metrics=seen.metrics, details=seen.details))
        if generation == 0:
            continue  # racing has no rows to learn from yet
        true = objective.best_first([r for r in records if r.generation <= generation])[:keep]
        best = objective.best_first(known)[:keep]
        now = known[-len(mine) :]
        outcomes.append(
            dict(
                generation=generation + 1,
                candidates=len(mine),
                dropped=sum(r.status == 'dropped' for r in now),
                images=images_of(now) / images_of(mine),
                kept={r.id for r in true} == {r.id for r in best},
                regret=objective.gain(true[0]) - objective.gain(best[0]),
            )
        )
    return outcomes


def main_of_one_search(args: argparse.Namespace) -> None:
    """Replays racing over the rows of one search; prints and writes the results."""
    everything = {name: replay_search(args.table, racing) for name, racing in ways_of_racing(args).items()}
    rows = [
        {
            'racing on': name,
            'images, %': 100 * statistics.mean(o['images'] for o in outcomes),
            'dropped a generation': statistics.mean(o['dropped'] for o in outcomes),
            f'top {args.keep} kept, % of {len(outcomes)} generations': 100 * statistics.mean(
                o['kept'] for o in outcomes
            ),
            'largest regret': max(o['regret'] for o in outcomes),
        }
        for name, outcomes in everything.items()
    ]  # fmt: skip
    print(table(rows))
    write_json(args.out, dict(rows=rows, outcomes=everything, settings={k: str(v) for k, v in vars(args).items()}))


class Replay:
    """Runs searches over one table."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        header, records = read_ledger(args.table)
        self.space = space_of(header)
        self.objective = Objective(header['objectives'][0]['name'])
        self.full = {r.id: self.objective.value(r) for r in records if r.ok}
        self.budget = Budget(
            self.space, dict(macs=MacsTable(self.space, (96, 96))), [Constraint('macs', high=args.macs)]
        )
        paths = [self.space.parse(r.arch) for r in records if r.ok]
        allowed = self.budget.allows(paths)
        self.optimum = max(self.full[path.id] for path, fits in zip(paths, allowed, strict=True) if fits)
        self.allowed = int(allowed.sum())
        self.paths = paths

    def search(self, seed: int, strategy: Strategy, racing: dict[str, Any] | None) -> list[Record]:
        """Returns all rows of one search."""
        evaluator = TabularEvaluator(self.args.table, racing)
        job = SearchJob(
            self.space, [self.objective], self.budget, strategy, evaluator, self.args.generations, seed,
            log=lambda text: None, show_progress=False,
        )  # fmt: skip
        job.prepare()
        evaluator.setup(job)  # reads the table: a tenth of a second
        ledger = Ledger(None, job.header())
        strategy.run(evaluator, ledger)
        return ledger.records

    def outcome(self, records: list[Record]) -> dict[str, Any]:
        """Returns the evaluated images, and the losses by racing per generation."""
        whole = max(judged_on(r) or 0 for r in records)
        kept, regret = [], []
        for generation in range(1, self.args.generations):
            known = [r for r in records if r.generation <= generation and r.id in self.full]
            true = sorted(known, key=lambda r: -self.full[r.id])[: self.args.keep]
            mine = self.objective.best_first(known)[: self.args.keep]
            kept.append({self.full[r.id] for r in true} == {self.full[r.id] for r in mine})
            regret.append(self.full[true[0].id] - self.full[mine[0].id])
        best = max(self.full[r.id] for r in records if r.ok)
        return dict(images=images_of(records) / whole, kept=kept, regret=regret, short=self.optimum - best)


def cheap_ranks(replay: Replay) -> dict[str, float]:
    """Returns the rank correlation (Spearman's) of training-free values with the fitness of all paths."""
    paths = replay.paths
    ids = replay.space.encode(paths)
    guesses = {
        'macs': MacsTable(replay.space, (96, 96)).totals(ids),
        'params': ParamsTable(replay.space).totals(ids),
    }
    fitness = [replay.full[path.id] for path in paths]
    return {name: float(spearmanr(guess, fitness).statistic) for name, guess in guesses.items()}


def main() -> None:
    args = parse_args()
    header, records = read_ledger(args.table)
    size = space_of(header).size
    if len(records) < size:
        print(f'{args.table} contains {len(records)} of {size:,} paths: replaying the generations of one search.')
        if any(record.status == 'dropped' for record in records):
            raise SystemExit(
                f'error: {args.table} contains dropped candidates, without full values. Use a ledger without them.'
            )
        main_of_one_search(args)
        return
    replay = Replay(args)

    def evolution(**changes: Any) -> EvolutionStrategy:
        return EvolutionStrategy(args.population, parents=args.keep, mutation_prob=0.4, **changes)

    surrogate = dict(ranker=dict(type='SurrogateRanker'), oversample=4)
    ways: dict[str, Any] = {
        'random': lambda: (RandomStrategy(args.population), None),
        'evolution': lambda: (evolution(), None),
        'evolution, surrogate': lambda: (evolution(prefilter=surrogate), None),
    }
    races = ways_of_racing(args)
    for name, racing in races.items():
        ways[f'evolution, racing on {name}'] = lambda racing=racing: (evolution(), racing)
    both, racing = next(item for item in races.items() if item[0].endswith(' at 99.0%'))
    ways[f'evolution, surrogate, racing on {both}'] = lambda: (evolution(prefilter=surrogate), racing)
    rows, everything = [], {}
    for name, way in ways.items():
        outcomes = [replay.outcome(replay.search(seed, *way())) for seed in range(args.seeds)]
        everything[name] = outcomes
        kept = [k for o in outcomes for k in o['kept']]
        rows.append(
            {
                'way': name,
                'full evaluations': statistics.mean(o['images'] for o in outcomes),
                f'top {args.keep} kept, % of {len(kept)} generations': 100 * statistics.mean(kept),
                'largest regret of racing': max(r for o in outcomes for r in o['regret']),
                'short of the best allowed, mean': statistics.mean(o['short'] for o in outcomes),
                'largest': max(o['short'] for o in outcomes),
            }
        )
        print(f'{name}: done', flush=True)
    values = np.array(list(replay.full.values()))
    print(
        f'\n{replay.space.size} paths, {replay.allowed} of at most {args.macs:,.0f} MACs, the best of these with '
        f'{replay.objective.name} {replay.optimum:.4f}; all: median {np.median(values):.4f}, standard deviation '
        f'{values.std():.4f}\n'
    )
    print(table(rows))
    ranks = cheap_ranks(replay)
    print('\nrank correlation with fitness: ' + ', '.join(f'{name} {value:.2f}' for name, value in ranks.items()))
    write_json(
        args.out, dict(rows=rows, ranks=ranks, outcomes=everything, settings={k: str(v) for k, v in vars(args).items()})
    )


if __name__ == '__main__':
    main()
