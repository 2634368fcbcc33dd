#!/usr/bin/env python
"""Measures latency tables on this machine, and how well their sums agree with whole nets."""

from detnas_mm.cli import at_least_1, one_line_errors, parser

EPILOG = """
examples:
  python tools/analysis_tools/measure_latency.py configs/digits/detnas-digits_search-latency_retinanet.py SUPERNET.pth
  python tools/analysis_tools/measure_latency.py configs/detnas/detnas-small_supernet_fpn_coco.py \\
      --part backbone --input-size 800 1088 --device cuda --out work_dirs/latency_gpu.json
  python tools/analysis_tools/measure_latency.py configs/mae_det/maedet_search-latency_gfl_coco.py --threads 1
  python tools/analysis_tools/measure_latency.py configs/mae_det/maedet_search-latency_gfl_coco.py --found

Times are taken inside whole nets. All nets take turns in ever new order, with rests, for some rounds; medians of the
rounds count, and their spread is reported. Part 'backbone' is the backbone alone, 'detector' is all from the image to
the boxes. With a checkpoint a detector looks at images of search-val, otherwise at noise, in which random weights find
nothing: post-processing is then cheaper than it will be.

What is measured is what the config's space says (its latency_subject). Of a supernet it is every choice. Of
structures, which need no supernet, it is every convolution over a grid of widths; ResNet-50, written as a structure, is
measured with them, and its latency printed, to be put in as a limit.

A search without a model ends with measuring what it has found, if it runs on the device that the tables are from;
elsewhere --found does that later. tools/search.py --measure does all of it.

The tables are used by costs=dict(latency=dict(type='LatencyTable', file='…')) in a config's search section, or by
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
    args_parser.add_argument('--threads', type=at_least_1, help="of a CPU; default: torch's choice")
    args_parser.add_argument('--rounds', type=int, default=30, help='default: %(default)s')
    args_parser.add_argument('--nets', type=int, default=30, help='whole nets to check by; default: %(default)s')
    args_parser.add_argument(
        '--grid', type=int, metavar='N',
        help='of structures: widths of each place that are measured, in N x N nets; default: 5',
    )  # fmt: skip
    args_parser.add_argument(
        '--found',
        action='store_true',
        help="measure the nets that a finished search has left in the work dir, at its table's size and threads",
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
            raise SystemExit(f'error: {args.config} has no `search` section, so nothing was found.')
        inputs = None if latency_of(job.budget) else FoundInputs(job, device, args.input_size)
        if measure_found(job, pace, device, inputs) is None:
            raise SystemExit('error: nothing was measured: the latencies of this search are of another device.')
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
