#!/usr/bin/env python
"""Sorts the channels of a dilated backbone by dilation: same outputs, but faster."""

import argparse
from pathlib import Path

from detnas_mm.cli import TRUST, config_file, one_line_errors, read_file

EPILOG = """
CHECKPOINT is either of a whole model, such as one that was exported by a search or trained. Then OUT.pth is the sorted
model, with the same test result:
  python tools/test.py OUT.py OUT.pth
Or it contains only pre-trained weights of the plain backbone. Then OUT.py initialises its backbone with the sorted
weights in OUT.pth, and trains the same net as CONFIG:
  python tools/train.py OUT.py
Layers that cannot be sorted, since other layers read their channels, too, are listed. The optimiser's state is not
written. OUT.py has no load_from.

examples:
  python tools/model_converters/sort_dilations.py found.py found.pth work_dirs/found_sorted.pth
  python tools/model_converters/sort_dilations.py found.py checkpoints/resnet50-imagenet.pth found_sorted.pth
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', metavar='CONFIG', type=config_file, help='a config with a DilatedBackbone')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', type=Path, help='of the model, or of the plain backbone')
    parser.add_argument('out', metavar='OUT', type=Path, help='checkpoint to write, with its config beside it as .py')
    parser.add_argument('--overwrite', action='store_true', help='replace existing files')
    parser.add_argument('--trust-checkpoint', action='store_true', help=TRUST)
    args = parser.parse_args()
    files = args.out.with_suffix('.pth'), args.out.with_suffix('.py')
    existing = [str(path) for path in files if path.exists()]
    if existing and not args.overwrite:
        raise SystemExit(f'error: {" and ".join(existing)} exist; use --overwrite to replace them.')

    import torch  # after the arguments: it takes seconds
    from mmengine.config import Config

    from detnas_mm.checkpoints import load_checkpoint_file, weights_in
    from detnas_mm.config_types import as_text
    from detnas_mm.engine.config import write_config
    from detnas_mm.errors import DetNASError
    from detnas_mm.files import replacing
    from detnas_mm.search.text import counted
    from detnas_mm.systems.nats.sorting import checkpoint_of, sort_model

    cfg = as_text(read_file(args.config))
    checkpoint = load_checkpoint_file(args.checkpoint, args.trust_checkpoint)
    new, done = sort_model(cfg.to_dict(), weights_in(checkpoint, args.checkpoint), str(files[0]))
    if not done.moved:
        reasons = ''.join(f'\n  {name}: {reason}' for name, reason in done.left.items())
        raise DetNASError(
            'There is nothing to sort: equal dilations are contiguous already, or cannot be moved.' + reasons
        )
    meta = checkpoint.get('meta')
    with replacing(files[0]) as draft:
        torch.save(checkpoint_of(done, meta if isinstance(meta, dict) else {}), draft)
    write_config(Config(new), files[1])
    sorted_ones = counted(len(done.moved), 'convolution')
    print(f'{sorted_ones} sorted; {len(done.left):,} left in place:' if done.left else f'{sorted_ones} sorted: all.')
    for name, reason in done.left.items():
        print(f'  {name}: {reason}')
    print(f'written: {files[1]}, {files[0]}')


if __name__ == '__main__':
    one_line_errors(main)
