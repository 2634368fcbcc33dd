"""Compares latencies of whole detectors between sessions, as measured and after dividing out the machine's pace.

Detectors of ordinary configs are measured as `NetLatency` measures candidates, in several sessions. The ratio of the
quickest and the slowest net's time in the first session to that in a later one is the pace that is divided out. Columns
say by how much each net deviates from its first session at most, before and after; those two nets are marked.

Example:
  cd benchmarks && python net_latency.py ../configs/digits/*-digits_*net_{retinanet,fpn}.py --input-size 128 128
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import add_output, table, write_json

from detnas_mm.cli import at_least_1, read_file
from detnas_mm.latency.net_file import PROTOCOL, NetFile
from detnas_mm.latency.session import measure_session
from detnas_mm.latency.whole import whole_detector, write_session


def main() -> None:
    args_parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args_parser.add_argument('configs', nargs='+', help='detectors, each another net')
    args_parser.add_argument('--input-size', nargs=2, type=int, help='for configs whose test pipeline names no scale')
    args_parser.add_argument('--sessions', type=at_least_1, default=3, help='[%(default)s]')
    args_parser.add_argument('--rounds', type=at_least_1, default=10, help='of each session, 2 or more [%(default)s]')
    args_parser.add_argument('--threads', type=at_least_1, default=1, help='of the CPU [%(default)s]')
    add_output(args_parser, 'net_latency.json')
    args = args_parser.parse_args()
    size = tuple(args.input_size) if args.input_size else None
    nets = [whole_detector(Path(name).stem, read_file(name).to_dict(), size) for name in args.configs]
    if len({net.key for net in nets}) < len(nets):
        raise SystemExit('error: two configs are the same net at the same input size: name each net once.')
    listed = [dict(vars(net), input_size=list(net.input_size)) for net in nets]
    pace = dict(rounds=args.rounds)
    raw: dict[str, list[float]] = {net.key: [] for net in nets}
    even: dict[str, list[float]] = {net.key: [] for net in nets}
    spreads: dict[str, list[float]] = {net.key: [] for net in nets}
    sessions: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_session(folder, listed, device='cpu', threads=args.threads, pace=pace)
        for _ in range(args.sessions):
            result = measure_session(folder)
            if result['failed']:
                raise SystemExit(f'error: {result["failed"]}')
            file = NetFile(folder / 'latency.json', dict(result['machine'], protocol=PROTOCOL))
            sessions.append(file.add(nets, result, pace=pace))
            for net in nets:
                raw[net.key].append(result['nets'][net.key]['ms'])
                even[net.key].append(file.nets[net.key]['ms'])
                spreads[net.key].append(file.nets[net.key]['iqr_ms'] / file.nets[net.key]['ms'])
        common = set(file.references)
    rows = [
        dict(
            net=net.arch + (' (in common)' if net.key in common else ''),
            ms=raw[net.key][0],
            spread_percent=float(100 * np.median(spreads[net.key])),
            deviation_percent=100 * deviation(raw[net.key]),
            divided_out_percent=100 * deviation(even[net.key]),
        )
        for net in nets
    ]
    print(table(rows))
    for number, session in enumerate(sessions[1:], 2):
        print(
            f'session {number}: the two nets took {1 / session["ratio"]:.3f} times as long as in the first; their own '
            f'ratios deviate from that by up to {session["unlike"]:.1%}'
        )
    write_json(args.out, dict(rows=rows, sessions=sessions))


def deviation(times: list[float]) -> float:
    """Returns the largest deviation from the first time, as a share of it."""
    return max(abs(one / times[0] - 1) for one in times)


if __name__ == '__main__':
    main()
