r"""Makes Digits, the built-in data set: handwritten digits for classification and detection.

Needs no download: the 1,797 digits and the two photographs are part of scikit-learn.

Files in OUT_DIR:
  train/ search_val/ test/             scenes of 1 to 4 digits, PNG
  annotations/instances_SPLIT.json     their boxes, in COCO's format; classes '0' to '9'
  cls/SPLIT/CLASS/*.png                crops with one digit each, for pre-training and classification
  annotations/crops_SPLIT.json         the digit of each crop
  CREDITS.txt digits.json              sources of the images; parameters and checksums

Splits:
  train        for training
  search_val   for evaluating the candidates of a search
  test         for the final results
  No handwritten digit and no region of the photographs is in two splits.

Examples:
  python tools/dataset_converters/make_digits.py
  python tools/dataset_converters/make_digits.py /tmp/tiny --num-train 40 --num-search-val 20 --num-test 20 \
      --num-cls-train 100 --num-cls-search-val 50 --num-cls-test 50

The same options give the same bytes. Run again, it verifies every file, and makes the set again
if one is damaged or missing.
"""

import argparse
import inspect
import sys

from detnas_mm.datasets.digits import make_digits
from detnas_mm.errors import DetNASError
from detnas_mm.terminal import doing, managed

HELP = {
    'seed': 'seed of the splits and of all images',
    'image_size': 'side of a scene in pixels; digits are 0.15 to 0.63 of it high; crops have half of it',
    'num_train': 'scenes of train',
    'num_search_val': 'scenes of search_val; fewer make the fitness noisier, more make each candidate slower',
    'num_test': 'scenes of test',
    'num_cls_train': 'crops for pre-training',
    'num_cls_search_val': 'crops for searches by classification accuracy',
    'num_cls_test': 'crops for testing',
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    defaults = {name: p.default for name, p in inspect.signature(make_digits).parameters.items()}
    default = defaults['out_dir']
    parser.add_argument('out_dir', nargs='?', default=default, help=f'folder to write into (default: {default})')
    for name, text in HELP.items():
        flag = '--' + name.replace('_', '-')
        parser.add_argument(flag, type=int, default=defaults[name], help=f'{text} (default: {defaults[name]})')
    parser.add_argument(
        '--heights', nargs=2, type=float, metavar=('LOW', 'HIGH'),
        help='smallest and largest height of digits, as fractions of the side of a scene (default: 0.146 0.625)',
    )  # fmt: skip
    parser.add_argument(
        '--overwrite', action='store_true', help='replace a data set with other options, or files of the same names'
    )
    parser.add_argument('--no-progress', dest='progress', action='store_false', help='show no progress bar')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    options = vars(parse_args(argv))
    try:
        with managed(), doing('making the set, or comparing it with its checksums'):
            summary = make_digits(options.pop('out_dir'), **options)
    except DetNASError as error:
        print(f'make_digits: {error}', file=sys.stderr)
        return 2
    print(summary)
    return 0


if __name__ == '__main__':
    sys.exit(main())
