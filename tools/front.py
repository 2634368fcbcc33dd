#!/usr/bin/env python
"""From one trained supernet to a front of tested nets with their latency on this device; nothing is retrained."""

import shlex

from detnas_mm.cli import at_least_1, one_line_errors, parser

EPILOG = """
examples:
  python tools/front.py configs/digits/detnas-digits_search-latency_retinanet.py SUPERNET.pth
  python tools/front.py CONFIG CHECKPOINT --device cuda --cfg-options search.costs.latency.file=work_dirs/gpu.json

Measures what every choice takes on this device, unless the config's latency table is there already; searches for the
front of metric against latency; exports every net of it as an ordinary config and checkpoint (best/); measures the
exported nets; tests them by mmengine's Runner.test. The folder then holds front.json, front.png and what a search
leaves. Started again, it goes on where it stopped. To share the search out, run tools/dist_search.sh on the same
--work-dir in between: a finished search is not repeated.
"""


def main() -> None:
    args_parser = parser(__doc__, EPILOG, launched=False)
    args_parser.add_argument('checkpoint', nargs='?', help='the trained supernet; default: load_from of the config')
    args_parser.add_argument('--device', choices=['cpu', 'cuda'], help='to measure on; default: cuda if there is one')
    args_parser.add_argument('--threads', type=at_least_1, help="of a CPU; default: torch's choice")
    args_parser.add_argument('--rounds', type=int, default=30, help='rounds of measuring; default: %(default)s')
    args_parser.add_argument('--seed', type=int, help='seed of the search; default: the one of the config')
    args = args_parser.parse_args()

    import torch

    from detnas_mm.compat import cuda_usable
    from detnas_mm.engine.config import read_config
    from detnas_mm.engine.front import search_front
    from detnas_mm.engine.inputs import check_inputs
    from detnas_mm.latency.timing import Pace

    if args.threads:
        torch.set_num_threads(args.threads)
    cfg = read_config(args)
    cfg.load_from = args.checkpoint or cfg.get('load_from')
    if not cfg.load_from:
        raise SystemExit(
            f'error: give the trained supernet: python tools/front.py {shlex.quote(args.config)} CHECKPOINT (see '
            f'configs/digits/README.md for how one is trained)'
        )
    check_inputs(cfg, args.trust_checkpoint)
    device = args.device or ('cuda' if cuda_usable() else 'cpu')
    search_front(cfg, cfg.load_from, device, Pace(args.rounds), args.seed, args.trust_checkpoint)


if __name__ == '__main__':
    one_line_errors(main)
