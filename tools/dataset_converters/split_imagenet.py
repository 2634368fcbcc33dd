"""Draws the search-validation images of ClsNAS from ImageNet's training set and writes the two image lists."""

import argparse
from pathlib import Path

EPILOG = """\
ClsNAS, the control experiment of the DetNAS paper, is the same search with ImageNet accuracy as objective. Candidates
are evaluated on 50,000 images that are drawn from the training set and excluded from supernet training. The draw
depends only on the seed and the paths of the images. Image files are not moved; labels are those that mmpretrain
assigns to the class folders.

example:
  python tools/dataset_converters/split_imagenet.py data/imagenet
writes data/imagenet/meta/detnas_train.txt and detnas_search_val.txt, which mmpretrain reads by
  dict(type='mmpretrain.ImageNet', data_root='data/imagenet', split='train', ann_file='meta/detnas_train.txt')
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', type=Path, help='the ImageNet folder, with images in ROOT/train/<class>/')
    parser.add_argument(
        '--ann-file', type=Path, help='list of "path label" lines to split, for images without class folders'
    )
    parser.add_argument('--out-dir', type=Path, help='folder to write into; default: ROOT/meta')
    from detnas_mm.datasets import splits

    splits.add_arguments(parser, count=50000)
    args = parser.parse_args()
    folder = args.out_dir or args.root / 'meta'

    def run() -> tuple:
        parts = splits.split_imagenet(args.root / 'train', args.count, args.seed, args.ann_file)
        paths = [folder / f'{stem}.txt' for stem in (splits.TRAIN, splits.SEARCH_VAL)]
        files = {path: splits.lines(part) for path, part in zip(paths, parts, strict=True)}
        setting = splits.setting('DETNAS_IMAGENET', 'data/imagenet', args.root)
        then = splits.next_step('detnas/detnas-small_supernet-clsnas_cls_imagenet.py', setting)
        return files, {path: len(part) for path, part in zip(paths, parts, strict=True)}, then

    splits.report(run, args.overwrite)


if __name__ == '__main__':
    main()
