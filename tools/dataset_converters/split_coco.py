"""Splits a COCO annotation file by randomly drawn images, or removes the images of another file from it."""

import argparse
import json
from pathlib import Path

EPILOG = """\
DetNAS draws 5,000 images from the detector's training set (COCO trainval35k, today's train2017), excludes them from
supernet training and evaluates candidates on them; the final test is on val2017. A search by gradient (NATS) trains
weights on one part and architecture parameters on the other: draw half of the images, with other --names. The split
depends only on the seed and the image ids, so it is the same on every machine. Image files are not moved. If a file is
listed under several ids, all of them go to the same part. Annotations without an area get that of their box; anything
else that mmdet cannot read is an error that names the id.

examples:
  python tools/dataset_converters/split_coco.py data/coco/annotations/instances_train2017.json
writes data/coco/annotations/detnas_train.json and detnas_search_val.json (4 GB of memory, one to two minutes).
  python tools/dataset_converters/split_coco.py data/coco/annotations/instances_train2017.json \\
      --count 58633 --names nats_weights nats_alpha
writes nats_weights.json and nats_alpha.json, the two halves.
  python tools/dataset_converters/split_coco.py data/coco/annotations/instances_val2014.json \\
      --without data/coco/annotations/instances_val2017.json --names val2014_without_minival
writes val2014_without_minival.json: val2017 is the minival of papers before 2017.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('ann_file', type=Path, help='COCO json to split, such as instances_train2017.json')
    parser.add_argument('--out-dir', type=Path, help='folder to write into; default: that of ann_file')
    parser.add_argument(
        '--without', type=Path, metavar='ANN_FILE', help='instead of drawing, remove the images of this COCO json'
    )
    from detnas_mm.datasets import splits

    names = (splits.TRAIN, splits.SEARCH_VAL)
    parser.add_argument(
        '--names', nargs='+', help=f'names of the files: rest and drawn [{" ".join(names)}]; one with --without'
    )
    splits.add_arguments(parser, count=5000)
    args = parser.parse_args()
    folder = args.out_dir or args.ann_file.parent
    needed = 1 if args.without else 2
    if args.without and not args.names:
        names = (f'{args.ann_file.stem}_without_{args.without.stem}',)
    names = args.names or names
    if len(set(names)) != needed:
        parser.error(f'--names: give {needed} different name{"s" * (needed > 1)}; got {" ".join(names)}.')

    def run() -> tuple:
        if args.without:
            parts = [splits.without_images(args.ann_file, args.without)]
        else:
            parts = list(splits.split_coco(args.ann_file, args.count, args.seed))
        paths = [folder / f'{stem}.json' for stem in names]
        files = {path: json.dumps(part).encode() for path, part in zip(paths, parts, strict=True)}
        counts = {path: len(part['images']) for path, part in zip(paths, parts, strict=True)}
        if args.names or args.without:
            return files, counts, ''
        setting = splits.setting('DETNAS_COCO', 'data/coco', folder.parent if folder.name == 'annotations' else folder)
        return files, counts, splits.next_step('detnas/detnas-small_supernet_fpn_coco.py', setting)

    splits.report(run, args.overwrite)


if __name__ == '__main__':
    main()
