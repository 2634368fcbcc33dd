#!/usr/bin/env python
"""Measures a latency table on this machine, and compares its predictions with measured whole nets."""

from detnas_mm.cli import at_least_1, one_line_errors, parser

EPILOG = """
examples:
  python tools/analysis_tools/measure_latency.py configs/digits/detnas-digits_search-latency_retinanet.py SUPERNET.pth
  python tools/analysis_tools/measure_latency.py configs/detnas/detnas-small_supernet_fpn_coco.py \\
      --part backbone --input-size 800 1088 --device cuda --out work_dirs/latency_gpu.json
  python tools/analysis_tools/measure_latency.py configs/mae_det/maedet_search-latency_gfl_coco.py --threads 1
  python tools/analysis_tools/measure_latency.py configs/mae_det/maedet_search-latency_gfl_coco.py --found

Parts are timed inside whole nets. In every round all nets run once, in random order and with pauses; the table contains
medians over the rounds, and their spread is printed. Part 'backbone' is the backbone only, 'detector' everything from
the image to the boxes. With a checkpoint, a detector runs on images of search-val; without, on noise, where random
weights detect nothing, so that post-processing is faster than with trained ones.

The space of the config selects what is measured: every choice of a supernet; or, for structures (MAE-DET), which need
no supernet, every convolution over a grid of widths. For structures the latency of ResNet-50 is printed, too, as a
possible limit.

A search without a model measures its exported nets at the end if it runs on the device of the table; on another device,
run this command with --found there. tools/search.py --measure does everything: table, search and exported nets.

To use a table: costs=dict(latency=dict(type='LatencyTable', file='…')) in a config's search section, or
type='StructureLatency' for structures.
"""


def main() -> None:
    args_parser = parser(__doc__, EPILOG, launched=False)
    args_parser.add_argument('checkpoint', nargs='?', help='the trained supernet; default: random weights')
    args_parser.add_argument('--out', help="the JSON file; default: the config's, or latency.json in the work dir")
    args_parser.add_argument('--part', choices=['backbone', 'detector'], help="default: the config's, or backbone")
    args_parser.add_argument(
        '--input-size', nargs=2, type=int, metavar=('H', 'W'), help="of the image, in pixels; default: the config's"
    )
    args_parser.add_argument('--device', choices=['cpu', 'cuda'], help='default: cuda if there is one')
    args_parser.add_argument('--threads', type=at_least_1, help="CPU threads; default: torch's choice")
    args_parser.add_argument('--rounds', type=int, default=30, help='measuring rounds; default: %(default)s')
    args_parser.add_argument('--nets', type=int, default=30, help='whole nets to compare with; default: %(default)s')
    args_parser.add_argument(
        '--grid', type=int, metavar='N',
        help='structures: number of measured widths per block, in about N x N nets; default: 5',
    )  # fmt: skip
    args_parser.add_argument(
        '--found',
        action='store_true',
        help="measure the exported nets of a finished search in the work dir, with its table's input size and threads",
    )
    args = args_parser.parse_args()

    import torch

    from detnas_mm.compat import cuda_usable
    from detnas_mm.engine.config import read_config
    from detnas_mm.engine.found import measure_found
    from detnas_mm.engine.found_inputs import FoundInputs
    from detnas_mm.engine.inputs import JobInputs, check_checkpoint
    from detnas_mm.engine.latency import latency_of, measure_latency, measured_costs
    from detnas_mm.latency.timing import Pace
    from detnas_mm.search import SearchJob

    if args.threads:
        torch.set_num_threads(args.threads)
    cfg = read_config(args)
    job = SearchJob.from_config(cfg) if 'search' in cfg else None
    device, pace = args.device or ('cuda' if cuda_usable() else 'cpu'), Pace(args.rounds)
    table = next(iter(measured_costs(job.budget).values()), None) if job else None
    if args.found:
        if job is None:
            raise SystemExit(f'error: --found: {args.config} has no `search` section. Give the config of a search.')
        inputs = None if latency_of(job.budget) else FoundInputs(job, device, args.input_size)
        if measure_found(job, pace, device, inputs) is None:
            raise SystemExit(
                'error: --found: nothing was measured, since the latency table of this search is of another device. '
                'Run it on that device.'
            )
        return
    size = args.input_size or (table and table.asked['input_size'])
    if not size:
        raise SystemExit(f'error: {args.config} has no measured latency with an input size: give --input-size H W.')
    part = args.part or (table and table.asked['part']) or 'backbone'
    if part == 'detector' and args.checkpoint:
        JobInputs.read(cfg, model=False).check_files()
    check_checkpoint(args.checkpoint, args.trust_checkpoint)
    measure_latency(
        cfg, args.checkpoint, args.out or (table and table.file) or f'{cfg.work_dir}/latency.json', part, size, device,
        pace, args.nets, args.grid, args.trust_checkpoint, job,
    )  # fmt: skip


if __name__ == '__main__':
    one_line_errors(main)
