#!/usr/bin/env python
"""Runs an architecture search; run again with the same work dir, it resumes from the ledger."""

import sys

from detnas_mm.cli import add_check_images, at_least_1, one_line_errors, parser, typed

ONLY_MEASURING = ('device', 'threads', 'rounds', 'input_size', 'test')

EPILOG = """
examples:
  python tools/search.py configs/digits/detnas-digits_search_retinanet.py SUPERNET.pth
  python tools/search.py CONFIG CHECKPOINT --work-dir work_dirs/search --cfg-options search.budget.generations=5
  python tools/search.py configs/mae_det/maedet_search_gfl_coco.py       # a score that needs no training: no checkpoint
  bash tools/dist_search.sh CONFIG CHECKPOINT 8
  python tools/search.py configs/digits/detnas-digits_search-latency_retinanet.py SUPERNET.pth --measure --threads 1

The work dir then contains ledger.jsonl (a row per candidate, or snapshots of a population), best.json, best/ (ordinary
configs of the best nets and, from a supernet, their weights), progress.png and, for exact searches, certificate.json.
The last lines printed are the next commands.

With --measure, this runs three steps: (1) measures the config's latency table on this device, unless the file exists;
(2) searches; (3) measures the exported nets, and re-evaluates those with weights on search-val with mmengine's
Runner.test. The work dir then also contains measured.json and, for several objectives, front.png. Without a latency
table in the config, step 1 is skipped. To search with several processes, measure the table first
(tools/analysis_tools/measure_latency.py), run tools/dist_search.sh, then this with the same --work-dir: a finished
search is not repeated.
"""


def main() -> None:
    args_parser = parser(__doc__, EPILOG)
    args_parser.add_argument('checkpoint', nargs='?', help='the trained supernet, if the evaluator needs one')
    args_parser.add_argument('--seed', type=int, help='seed of the search; default: that of the config')
    args_parser.add_argument(
        '--retry-failed', action='store_true',
        help='evaluate again the generations of candidates that failed in an earlier run, and all later ones',
    )  # fmt: skip
    args_parser.add_argument(
        '--fail-lost', action='store_true',
        help='record candidates as failed that are lost at every attempt (their process is killed each time), although '
        'nothing else has finished since; by default the search stops, since the machine may be broken. '
        '--retry-failed takes them up again',
    )  # fmt: skip
    add_check_images(args_parser)
    measuring = args_parser.add_argument_group('measuring latency')
    measuring.add_argument('--measure', action='store_true', help='measure the table before, the exported nets after')
    measuring.add_argument('--device', choices=['cpu', 'cuda'], help='device to measure on; default: cuda if available')
    measuring.add_argument('--threads', type=at_least_1, help="CPU threads; default: the table's, else torch's choice")
    measuring.add_argument('--rounds', type=at_least_1, help='measuring rounds; default: 30')
    measuring.add_argument(
        '--input-size', nargs=2, type=at_least_1, metavar=('H', 'W'),
        help="for configs without a latency table; default: that of search-val's images, or of the test pipeline",
    )  # fmt: skip
    measuring.add_argument('--test', action='store_true', help='also test the exported nets on their test set')
    args = args_parser.parse_args()
    if not args.measure:
        given = [f'--{name.replace("_", "-")}' for name in ONLY_MEASURING if getattr(args, name)]
        if given:
            args_parser.error(f'{", ".join(given)}: only with --measure')
    elif args.launcher not in (None, 'none'):
        raise SystemExit(
            'error: --measure must run in one process, alone on its machine. Run the search without --measure first; '
            f'then: {one_process(sys.argv[1:])}'
        )

    from detnas_mm.engine.config import read_config  # after the arguments: it loads torch

    if args.check_images:
        from detnas_mm.engine.every_image import check_every_image

        check_every_image(read_config(args), [])
        return
    if not args.measure:
        from detnas_mm.engine.launch import search

        search(
            read_config(args), args.checkpoint, args.seed, args.trust_checkpoint,
            retry_failed=args.retry_failed, fail_lost=args.fail_lost,
        )  # fmt: skip
        return

    import torch

    from detnas_mm.compat import cuda_usable
    from detnas_mm.engine.measure import search_and_measure
    from detnas_mm.latency.timing import Pace

    if args.threads:
        torch.set_num_threads(args.threads)
    search_and_measure(
        read_config(args), args.checkpoint, args.device or ('cuda' if cuda_usable() else 'cpu'),
        Pace(args.rounds or 30), args.threads, args.input_size, args.test, args.seed, args.trust_checkpoint,
        retry_failed=args.retry_failed, fail_lost=args.fail_lost,
    )  # fmt: skip


def one_process(arguments: list[str]) -> str:
    """Returns the same command without its launcher."""
    words = iter(arguments)
    kept = []
    for word in words:
        name = word.partition('=')[0]
        if name in ('--launcher', '--local_rank', '--local-rank'):
            if name == word:
                next(words)
        else:
            kept.append(word)
    return typed('search.py', *kept)


if __name__ == '__main__':
    one_line_errors(main)
