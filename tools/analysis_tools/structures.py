#!/usr/bin/env python
"""Compares MAE-DET structures by entropy, parameters, multiply-adds, FLOPs and layers, and draws them."""

import argparse
from pathlib import Path

from detnas_mm.cli import one_line_errors

EPILOG = """
A STRUCTURE is a published name (maedet-s, maedet-m, maedet-l, maedet-init), resnet50 (as a structure), a text such as
'32k3s2|48k5s2x2b32|...', a text file of the authors' code, or the folder of a search, whose best net is used.

examples:
  python tools/analysis_tools/structures.py maedet-s maedet-m maedet-l maedet-init resnet50
  python tools/analysis_tools/structures.py work_dirs/maedet_search_gfl_coco resnet50 --draw found.png
  python tools/analysis_tools/structures.py work_dirs/maedet_search_gfl_coco --write best_structure.txt
"""


def read(text: str) -> dict:
    """Returns structures by name, each with the channels of its images."""
    import json

    from detnas_mm.systems.mae_det.structure import RESNET50, read_with_channels
    from detnas_mm.systems.mae_det.structure_files import read_dicts

    path = Path(text)
    if path.is_dir():
        best = path / 'best.json'
        if not best.is_file():
            raise SystemExit(f'error: {path} has no best.json. Give the folder of a finished search.')
        try:
            found = json.loads(best.read_text())
        except ValueError as error:
            raise SystemExit(f'error: {best} is not valid JSON: {error}.') from error
        return {path.name: read_with_channels(found[0]['arch'], found[0].get('space', {}).get('in_channels'))}
    if path.is_file():
        nets = read_dicts(path)
        return {
            f'{path.name}{f"[{i}]" if len(nets) > 1 else ""}': read_with_channels(net) for i, net in enumerate(nets)
        }
    return {text: read_with_channels(RESNET50 if text == 'resnet50' else text)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('structures', nargs='+', metavar='STRUCTURE', help='structures to compare, see below')
    parser.add_argument(
        '--input-size', type=int, nargs=2, default=(480, 480), metavar=('HEIGHT', 'WIDTH'),
        help='image size for MACs and FLOPs; default: 480 480',
    )  # fmt: skip
    parser.add_argument(
        '--weights', type=float, nargs='+', help='weights of the stages, from the stem on; default: 0 0 1 1 6'
    )  # fmt: skip
    parser.add_argument('--draw', type=Path, metavar='PNG', help='draw all of them into this file')
    parser.add_argument('--write', type=Path, metavar='FILE', help="write them into a text file of the authors' format")
    args = parser.parse_args()

    from detnas_mm.systems.mae_det import (
        EntropyScore,
        MAEDetSpace,
        StructureFlops,
        StructureLayers,
        StructureMacs,
        StructureParams,
    )
    from detnas_mm.systems.mae_det.structure import to_dicts
    from detnas_mm.systems.mae_det.structure_files import write_file

    found: dict = {}
    try:
        for text in args.structures:
            for name, net in read(text).items():
                found[f'{text}: {name}' if found.get(name, net) != net else name] = net  # equal names
        nets = [to_dicts(*net) for net in found.values()]
        score = EntropyScore(args.weights) if args.weights else EntropyScore()
        scores = score.scores(nets).tolist()
    except OSError as error:
        raise SystemExit(f'error: {error}') from error

    def costs_of(in_channels: int) -> list:
        space = MAEDetSpace('authors', in_channels)
        sized = [kind(space, args.input_size) for kind in (StructureMacs, StructureFlops)]
        return [StructureParams(space), *sized, StructureLayers(space)]

    costs = costs_of(3)
    width = max(map(len, [*found, 'structure']))
    heads = ''.join(f'{cost.name:>17}' for cost in costs)
    print(f'{"structure":{width}}{"entropy":>12}{heads}')
    for (name, (arch, channels)), value in zip(found.items(), scores, strict=True):
        print(f'{name:{width}}{value:>12.4f}' + ''.join(f'{cost.total(arch):>17,}' for cost in costs_of(channels)))
    print('\n' + '\n'.join(f'{cost.name}: {cost.scope}' for cost in costs))
    try:
        if args.draw:
            from detnas_mm.systems.mae_det import draw_structures

            print(f'drawn: {draw_structures({name: arch for name, (arch, _) in found.items()}, args.draw)}')
        if args.write:
            write_file(args.write, nets)
            print(f'written: {args.write}')
    except OSError as error:  # a folder of that name
        raise SystemExit(f'error: {error}') from error


if __name__ == '__main__':
    one_line_errors(main)
