"""Draws DetNAS's search-validation images from VOC 2007 + 2012 trainval and writes the image lists."""

import argparse
from pathlib import Path

EPILOG = """\
The paper draws 5,000 images from VOC trainval07+12 (16,551 images), excludes them from supernet training and evaluates
candidates on them; the final test is on test2007. The draw is over all years together and depends only on the seed and
the image ids. Two lists are written per year, since mmdet reads VOC with one dataset per year.

example:
  python tools/dataset_converters/split_voc.py data/VOCdevkit
writes data/VOCdevkit/VOC{2007,2012}/ImageSets/Main/detnas_train.txt and detnas_search_val.txt.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', type=Path, help='the VOCdevkit folder, with VOC2007 and VOC2012')
    parser.add_argument('--years', nargs='+', default=['2007', '2012'], help='years to split together [2007 2012]')
    parser.add_argument('--list', default='trainval', help='name of the image list to split [%(default)s]')
    from detnas_mm.datasets import splits

    splits.add_arguments(parser, count=5000)
    args = parser.parse_args()

    def run() -> tuple:
        ids = splits.split_voc(args.root, args.years, args.list, args.count, args.seed)
        files = {path: splits.lines(i) for path, i in ids.items()}
        setting = splits.setting('DETNAS_VOC', 'data/VOCdevkit', args.root)
        then = splits.next_step('detnas/detnas-small_supernet_fpn_voc.py', setting)
        return files, {path: len(i) for path, i in ids.items()}, then

    splits.report(run, args.overwrite)


if __name__ == '__main__':
    main()
