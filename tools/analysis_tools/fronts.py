#!/usr/bin/env python
"""Compares the Pareto fronts of several searches, and computes the joint front of equally trained nets."""

import argparse
import json
from pathlib import Path

from detnas_mm.cli import one_line_errors, until_nobody_reads

EPILOG = """
Searches must have the same two objectives. The joint front contains only nets that were trained as in the last search
(same evaluator, recipe, augmentation and budget); the others are counted and left out.

examples:
  python tools/analysis_tools/fronts.py work_dirs/structural work_dirs/modular --draw fronts.png
  python tools/analysis_tools/fronts.py work_dirs/random work_dirs/structural work_dirs/modular --apart random
  python tools/analysis_tools/fronts.py work_dirs/modular work_dirs/random --reference 0 60
  python tools/analysis_tools/fronts.py work_dirs/modular --marks by_hand.json --unit ms
  python tools/analysis_tools/fronts.py work_dirs/modular --pruning --spread 0.5

--marks: hand-designed detectors, [{"name": "RetinaNet R-18", "coco/bbox_mAP": 0.31, "latency": 24.1}, ...].
--pruning: replays searches of a ModularSpace with partial-order pruning; counts skipped candidates and lost front nets.
"""


def read_marks(file: Path, objectives: list) -> list:
    """Reads hand-designed detectors from a JSON file."""
    from detnas_mm.visualization import Mark

    try:
        found = json.loads(file.read_text())
        return [Mark(str(one['name']), tuple(float(one[o.name]) for o in objectives)) for one in found]
    except OSError as error:
        raise SystemExit(f'error: {file} cannot be read: {error.strerror}.') from error
    except (ValueError, TypeError, KeyError) as error:
        names = ', '.join(f'"{one.name}": …' for one in objectives)
        raise SystemExit(
            f'error: {file} must be a list of {{"name": "…", {names}}} ({type(error).__name__}: {error}).'
        ) from error


def show_pruning(stage, folder: Path, objectives: list, reference: tuple, spread: float | None) -> None:
    """Prints how many candidates partial-order pruning has skipped, and how many it would skip."""
    from detnas_mm.search import counted, number_text
    from detnas_mm.search.fronts import volume
    from detnas_mm.systems.sm_nas.pruning import read_notes, replay_stage

    spared, spreads = read_notes(folder)
    effect = replay_stage(stage, objectives, spreads if spread is None else spread)
    if effect is None:
        print(f'{stage.name}: no partial order in this space, pruning does not apply')
        return
    how = f'spread {number_text(spread or 0.0)}' if spread is not None or not spreads else 'spreads from pruning.json'
    if spared is not None:
        print(f'{stage.name}: {counted(spared, "candidate")} spared in the search, that is dropped before training')
    before, after = (volume(rows, objectives, reference) for rows in (effect.front, effect.kept))
    change = f', hypervolume {before:.6g} to {after:.6g} ({(after - before) / before:+.2%})' if before else ''
    print(
        f'{stage.name}: replay of pruning ({how}): {len(effect.spared):,} of '
        f'{counted(len(effect.rows), "candidate")} spared, {len(effect.lost):,} of '
        f'{counted(len(effect.front), "net")} on the front lost{change}'
    )
    for record in effect.lost:
        print(f'  lost: {record.id}  {record.arch}')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('searches', nargs='+', type=Path, help='folders of searches, or ledgers; the final search last')
    parser.add_argument('--names', nargs='+', metavar='NAME', help='names of the searches; default: their folders')
    parser.add_argument(
        '--reference', nargs=2, type=float, metavar=('FIRST', 'SECOND'),
        help='reference point of hypervolumes, a value per objective; default: 0, and the worst of all rows',
    )  # fmt: skip
    parser.add_argument(
        '--apart', nargs='+', default=[], metavar='NAME',
        help='searches to leave out of the joint front, such as a baseline',
    )  # fmt: skip
    parser.add_argument('--marks', type=Path, metavar='JSON', help='hand-designed detectors to draw')
    parser.add_argument('--draw', type=Path, metavar='PNG', help='draw all fronts into this file')
    parser.add_argument('--unit', help='unit of the second objective; default: that of the cost, such as ms')
    parser.add_argument('--pruning', action='store_true', help='replay partial-order pruning')
    parser.add_argument(
        '--spread', type=float, metavar='VALUE',
        help='differences of the second objective below it are ties in --pruning; default: as recorded by the search',
    )  # fmt: skip
    args = parser.parse_args()
    if args.names and len(args.names) != len(args.searches):
        raise SystemExit(f'error: --names: {len(args.names)} names for {len(args.searches)} searches; give one each.')
    if args.draw and args.draw.suffix != '.png':
        raise SystemExit(f'error: --draw must be a .png file; got {args.draw}.')

    from detnas_mm.search import counted, pareto_front
    from detnas_mm.search.analysis import cost_units, with_unit
    from detnas_mm.search.fronts import Stage, common_objectives, joint_front, reference_point, volume

    names = args.names or [None] * len(args.searches)
    stages = [Stage.read(path, name) for path, name in zip(args.searches, names, strict=True)]
    twice = [stage.name for i, stage in enumerate(stages) if stage.name in [one.name for one in stages[:i]]]
    if twice:
        raise SystemExit(f'error: two searches have the name {twice[0]!r}: give each a different name with --names.')
    objectives = common_objectives(stages)
    units = cost_units(stages[-1].header)
    if args.unit is not None:
        units[objectives[1].name] = args.unit
    marks = read_marks(args.marks, objectives) if args.marks else []
    unknown = sorted(set(args.apart) - {stage.name for stage in stages})
    if unknown:
        raise SystemExit(
            f'error: --apart: no search has the name {unknown[0]!r}. Names: {", ".join(s.name for s in stages)}.'
        )
    joined = [stage for stage in stages if stage.name not in args.apart]
    joint = joint_front(joined, objectives) if len(joined) > 1 else None
    reference = args.reference or reference_point([r for stage in stages for r in stage.records], objectives)

    def show(label: str, row) -> None:
        values = '  '.join(with_unit(one.name, one.value(row), units) for one in objectives)
        print(f'  {label}{row.id}  {row.arch}  {values}')

    for stage in stages:
        ok = [record for record in stage.records if record.ok]
        front = pareto_front(ok, objectives) if ok else []
        rows = counted(len(stage.records), 'row')
        print(f'{stage.name}: {rows}, {len(ok):,} successful, {len(front):,} on the front; hypervolume '
              f'{volume(ok, objectives, reference):.6g}')  # fmt: skip
        for row in front:
            show('', row)
    if joint is not None:
        rows = [row for _, row in joint.rows]
        others = ', '.join(f'{count} of {name}' for name, count in joint.left_out.items())
        alike = counted(len(rows), 'row')
        print(f'joint: {alike} trained like those of {joined[-1].name}, {len(joint.front):,} on the front; '
              f'hypervolume {volume(rows, objectives, reference):.6g}'
              f'{f"; left out, trained differently: {others}" if others else ""}')  # fmt: skip
        for name, row in joint.front:
            show(f'{name}  ', row)
    point = ', '.join(with_unit(one.name, value, units) for one, value in zip(objectives, reference, strict=True))
    print(f'reference point of hypervolumes: {point}')
    if args.pruning:
        for stage, path in zip(stages, args.searches, strict=True):
            show_pruning(stage, path if path.is_dir() else path.parent, objectives, reference, args.spread)
    if args.draw:
        from detnas_mm.visualization import plot_fronts

        print(plot_fronts(stages, objectives, args.draw, joint, marks, [units.get(one.name, '') for one in objectives]))


if __name__ == '__main__':
    one_line_errors(lambda: until_nobody_reads(main))
