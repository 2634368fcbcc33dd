"""Draws DetNAS's search-validation images out of a COCO training set and writes the two annotation files."""

import argparse
import json
from pathlib import Path

EPILOG = """\
The paper draws 5,000 images from the detector's training set (COCO trainval35k, today's train2017), keeps them out
of supernet training and judges candidates on them; the final test stays on val2017. The draw depends on the seed and
the image ids alone, so two machines with the same file get the same split. Images stay where they are.

example:
  python tools/dataset_converters/split_coco.py data/coco/annotations/instances_train2017.json
writes data/coco/annotations/detnas_train.json and detnas_search_val.json (4 GB of memory, one to two minutes).
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('ann_file', type=Path, help='COCO json to split, such as instances_train2017.json')
    parser.add_argument('--out-dir', type=Path, help='where to write; by default beside ann_file')
    from detnas_mm.datasets import splits

    splits.add_arguments(parser, count=5000)
    args = parser.parse_args()
    folder = args.out_dir or args.ann_file.parent

    def run() -> tuple:
        parts = splits.split_coco(args.ann_file, args.count, args.seed)
        paths = [folder / f'{stem}.json' for stem in (splits.TRAIN, splits.SEARCH_VAL)]
        files = {path: json.dumps(part).encode() for path, part in zip(paths, parts, strict=True)}
        counts = {path: len(part['images']) for path, part in zip(paths, parts, strict=True)}
        then = (
            'Next: train a supernet without the drawn images, for example\n'
            '  bash tools/dist_train.sh configs/detnas/detnas-small_supernet_fpn_coco.py 8\n'
            'The configs look in data/coco; if yours is elsewhere, set DETNAS_COCO=/its/path.'
        )
        return files, counts, then

    splits.report(run, args.overwrite)


if __name__ == '__main__':
    main()
