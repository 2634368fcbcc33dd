#!/usr/bin/env python
"""Shows the best rows, the Pareto front or any selection of ledgers; merges ledgers; writes CSV."""

import argparse
import sys
from pathlib import Path

from detnas_mm.cli import one_line_errors, until_nobody_reads

EPILOG = """
examples:
  python tools/analysis_tools/ledger.py work_dirs/search                                  # the ten best
  python tools/analysis_tools/ledger.py work_dirs/search --top 5 --by accuracy/top1
  python tools/analysis_tools/ledger.py work_dirs/search --where 'macs<=250e6' origin=mutation
  python tools/analysis_tools/ledger.py work_dirs/search --front coco/bbox_mAP macs:minimize
  python tools/analysis_tools/ledger.py work_dirs/a work_dirs/b --merge all.jsonl --csv all.csv

Names are the metrics and costs of the rows; in conditions also: {fields}.
Conditions compare with <= >= < > = !=, texts only with = and !=; NAME=None selects rows without such a value.
To export a row: python tools/export_subnet.py FOLDER ID
"""


def main() -> None:
    from detnas_mm.search import Objective, analysis, counted, pareto_front

    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EPILOG.format(fields=', '.join(analysis.FIELDS)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('ledgers', nargs='+', type=Path, help='folders or ledger files of one search')
    parser.add_argument('--top', type=int, default=10, metavar='K', help='number of rows to show; default: %(default)s')
    parser.add_argument('--by', help='NAME or NAME:minimize to rank by; default: the first objective of the search')
    parser.add_argument(
        '--where', nargs='+', default=[], metavar='CONDITION',
        help="select rows that meet all conditions, such as 'macs<=250e6'",
    )  # fmt: skip
    parser.add_argument('--front', nargs='+', metavar='NAME', help='show the Pareto front of these instead of the best')
    parser.add_argument('--merge', type=Path, metavar='FILE', help='write the selected rows into a new ledger')
    parser.add_argument('--csv', type=Path, metavar='FILE', help='write the selected rows as CSV; - prints them')
    args = parser.parse_args()
    if args.top < 1:
        raise SystemExit(f'error: --top must be 1 or more; got {args.top}.')

    header, records = analysis.merge(args.ledgers)
    known = analysis.names(records)
    for text in args.where:
        holds = analysis.condition(text, known)
        records = [record for record in records if holds(record)]

    ranking = [name for name in known if name not in analysis.FIELDS]

    def objective(text: str) -> Objective:
        name, _, direction = text.partition(':')
        if name not in ranking:
            raise SystemExit(f'error: {name!r} is no metric or cost of these rows. Allowed: {", ".join(ranking)}.')
        return Objective(name, direction or 'maximize')

    wanted = [Objective(**one) for one in header['objectives']]
    if args.csv and str(args.csv) != '-':
        if analysis.is_ledger(args.csv):
            raise SystemExit(f'error: --csv {args.csv} would overwrite a ledger. Give another file.')
        try:
            with args.csv.open('w', newline='') as file:
                analysis.write_csv(file, records)
        except OSError as error:
            raise SystemExit(
                f'error: cannot write --csv {args.csv}: {error.strerror}. Give a file in an existing folder.'
            ) from error
    if args.merge:
        analysis.write_merged(args.merge, header, records)
    if str(args.csv) == '-':
        analysis.write_csv(sys.stdout, records)
        return
    if args.front:
        wanted = [objective(text) for text in args.front]
    else:
        wanted = [objective(args.by)] if args.by else wanted[:1]
    # Rows may lack metrics that are no objectives: values that are not finite are not written.
    judged = [r for r in records if r.ok and all(analysis.value(r, one.name) is not None for one in wanted)]
    rows = pareto_front(judged, wanted) if args.front else wanted[0].best_first(judged)[: args.top]
    failed, dropped = (sum(record.status == status for record in records) for status in ('failed', 'dropped'))
    kind = 'on the front' if args.front else 'best'
    print(f'{counted(len(records), "row")}, {failed:,} failed, {dropped:,} dropped early; {kind}: {len(rows):,}')
    units = analysis.cost_units(header)
    costs = [name for name in (rows[0].costs if rows else ()) if name not in [one.name for one in wanted]]
    for row in rows:
        shown = (*(one.name for one in wanted), *costs)
        values = [analysis.with_unit(name, analysis.value(row, name), units) for name in shown]
        print(f'{row.id}  {row.arch}  {"  ".join(values)}  generation {row.generation}  {row.origin}')


if __name__ == '__main__':
    one_line_errors(lambda: until_nobody_reads(main))
