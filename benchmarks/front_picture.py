#!/usr/bin/env python
"""Draws the README's picture from a finished quickstart: all candidates, their front, and nets that were trained.

  python benchmarks/front_picture.py work_dirs/quickstart/retinanet_seed0 --out docs/images/front.png

Left: each candidate's fitness in the supernet against its MACs, the Pareto front, and the three nets that the
quickstart trains. Right: the test mAP of these three, each trained by itself. All numbers are those of ledger.jsonl and
result.json; nothing is recomputed. A quickstart with --smallest is refused, since its nets are worth nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'tools'))
from _quickstart_steps import Size

from detnas_mm.search import Objective, pareto_front, read_ledger

#: Nets that the quickstart trains: key in result.json, legend, colour.
NETS = (
    ('found', 'found by the search', '#d95f02'),
    ('random', 'random, same MACs ±2 %', '#7570b3'),
    ('smallest', 'all 3×3', '#1b9e77'),
)
DETECTORS = dict(retinanet='RetinaNet', fpn='Faster R-CNN')


def read(folder: Path) -> tuple[dict[str, Any], list[Any], str]:
    """Returns result.json, the successful rows of the search and the name of their metric.

    Raises:
        SystemExit: If the quickstart is not finished, or was one at the smallest size.
    """
    file = folder / 'result.json'
    if not file.is_file():
        raise SystemExit(f'error: there is no {file}. Run bash tools/quickstart.sh to its end first.')
    result = json.loads(file.read_text())
    plan = result['plan']
    if plan['size'] != json.loads(json.dumps(asdict(Size()))):
        raise SystemExit(f'error: {folder} was run at another size than the default, {plan["size"]}: not a result.')
    header, records = read_ledger(folder / f'search_{plan["detector"]}' / 'ledger.jsonl')
    return result, [record for record in records if record.ok], header['objectives'][0]['name']


def draw(folder: Path, out: Path) -> Path:
    """Draws the picture of a finished quickstart.

    Args:
        folder: Of the quickstart, with result.json.
        out: The PNG to write.
    """
    result, rows, metric = read(folder)
    nets = result['nets']
    figure = Figure(figsize=(10, 4), layout='constrained')
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    objectives = [Objective(metric, 'maximize'), Objective('macs', 'minimize')]
    left.scatter(
        [row.costs['macs'] / 1e6 for row in rows], [row.metrics[metric] for row in rows],
        s=18, color='#bbbbbb', label=f'{len(rows)} candidates',
    )  # fmt: skip
    front = sorted(pareto_front(rows, objectives), key=lambda row: row.costs['macs'])
    left.step(
        [row.costs['macs'] / 1e6 for row in front], [row.metrics[metric] for row in front],
        where='post', color='black', lw=1, label='Pareto front of the search',
    )  # fmt: skip
    for number, (key, label, colour) in enumerate(NETS):
        net = nets[key]
        if net['fitness'] is not None:
            left.scatter(net['macs'] / 1e6, net['fitness'], s=90, marker='*', color=colour, label=label, zorder=3)
        right.scatter(number, net['test_mAP'], s=90, marker='*', color=colour)
        right.annotate(
            f'{net["test_mAP"]:.3f}', (number, net['test_mAP']), (0, 8), textcoords='offset points', ha='center'
        )
    left.set(xlabel='MACs of the backbone at 96×96, million', ylabel='fitness: mAP on search-val, in the supernet')
    left.legend(fontsize=8)
    right.set(ylabel='test mAP, each trained by itself', xlim=(-0.6, len(NETS) - 0.4))
    right.margins(y=0.3)
    right.set_xticks(range(len(NETS)), [label.replace(', ', ',\n') for _, label, _ in NETS], fontsize=8)
    plan = result['plan']
    name = DETECTORS[plan['detector']]
    figure.suptitle(f'Digits, {name}, seed {plan["seed"]} (one seed: an illustration, not evidence)', fontsize=10)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100)
    return out


def main() -> None:
    """Reads the command line and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, help='of a finished quickstart, with result.json')
    parser.add_argument('--out', type=Path, default=Path('docs/images/front.png'), help='default: %(default)s')
    args = parser.parse_args()
    print(f'Written: {draw(args.folder, args.out)}')


if __name__ == '__main__':
    main()
