"""Tiny data sets in the layouts of COCO, VOC and ImageNet: enough for configs to be run on, for a step."""

import json
from pathlib import Path

import cv2
import numpy as np
from mmdet.datasets import CocoDataset, VOCDataset

from detnas_mm.datasets import splits
from detnas_mm.datasets.digits import make_digits

SIZE = 80, 64  # width, height


def make_all(root: Path) -> dict[str, str]:
    """Writes all data sets; returns the environment variables by which configs find them."""
    for name, make in MAKERS.items():
        make(root / name)
    return {f'DETNAS_{name.upper()}': str(root / name) for name in MAKERS}


def _image(path: Path, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """Writes noise with two rectangles in it; returns them as (left, top, right, bottom)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = rng.integers(0, 90, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    boxes = [(4, 6, 40, 50), (44, 20, 76, 60)]
    for left, top, right, bottom in boxes:
        image[top:bottom, left:right] += rng.integers(60, 160, 3, dtype=np.uint8)
    cv2.imwrite(str(path), image)
    return boxes


def make_coco(root: Path) -> None:
    """train2017 (6 images, of which 2 become search-val) and val2017 (2)."""
    rng = np.random.default_rng(0)
    categories = [dict(id=i, name=name) for i, name in enumerate(CocoDataset.METAINFO['classes'], 1)]
    for part, count in (('train2017', 6), ('val2017', 2)):
        images, annotations = [], []
        for number in range(1, count + 1):
            name = f'{number:012}.jpg'
            images.append(dict(id=number, file_name=name, width=SIZE[0], height=SIZE[1]))
            for left, top, right, bottom in _image(root / part / name, rng):
                box = [left, top, right - left, bottom - top]
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=number,
                        category_id=int(rng.integers(1, 81)),
                        bbox=box,
                        area=box[2] * box[3],
                        iscrowd=0,
                        segmentation=[[left, top, right, top, right, bottom, left, bottom]],
                    )  # fmt: skip
                )
        file = root / 'annotations' / f'instances_{part}.json'
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    parts = splits.split_coco(root / 'annotations' / 'instances_train2017.json', count=2, seed=0)
    for stem, part in zip((splits.TRAIN, splits.SEARCH_VAL), parts):
        (root / 'annotations' / f'{stem}.json').write_text(json.dumps(part))
    _make_nats_parts(root)


def _make_nats_parts(root: Path) -> None:
    """Halves of train2017, and train2014 and what is left of val2014, whose images are those of train2017."""
    folder = root / 'annotations'
    for stem, part in zip(
        ('nats_weights', 'nats_alpha'), splits.split_coco(folder / 'instances_train2017.json', count=3, seed=0)
    ):
        (folder / f'{stem}.json').write_text(json.dumps(part))
    for copy, stem, images in (
        ('instances_train2014', 'nats_weights', 'train2014'),
        ('val2014_without_minival', 'nats_alpha', 'val2014'),
    ):
        (folder / f'{copy}.json').write_text((folder / f'{stem}.json').read_text())
        (root / images).symlink_to('train2017')


def make_voc(root: Path) -> None:
    """Trainval of 2007 and 2012 (4 images each, of which 4 become search-val) and test2007 (2)."""
    rng = np.random.default_rng(0)
    classes = VOCDataset.METAINFO['classes']
    for year, part, numbers in (
        ('2007', 'trainval', range(4)),
        ('2007', 'test', range(4, 6)),
        ('2012', 'trainval', range(4)),
    ):
        folder = root / f'VOC{year}'
        for number in numbers:
            boxes = _image(folder / 'JPEGImages' / f'{year}_{number:06}.jpg', rng)
            objects = ''.join(
                f'<object><name>{classes[rng.integers(20)]}</name><difficult>0</difficult>'
                f'<bndbox><xmin>{left + 1}</xmin>'
                f'<ymin>{top + 1}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>'
                for left, top, right, bottom in boxes
            )
            file = folder / 'Annotations' / f'{year}_{number:06}.xml'
            file.parent.mkdir(exist_ok=True)
            file.write_text(
                f'<annotation><size><width>{SIZE[0]}</width><height>{SIZE[1]}</height><depth>3</depth></size>{objects}'
                f'</annotation>'
            )
        lists = folder / 'ImageSets' / 'Main'
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f'{part}.txt').write_text(''.join(f'{year}_{number:06}\n' for number in numbers))
    for path, ids in splits.split_voc(root, ('2007', '2012'), 'trainval', count=4, seed=0).items():
        path.write_bytes(splits.lines(ids))


def make_imagenet(root: Path) -> None:
    """8 images of train, of which 3 become search-val, and 2 of val, in the layout with lists under meta/."""
    rng = np.random.default_rng(0)
    lists = root / 'meta'
    lists.mkdir(parents=True)
    for part, count in (('train', 8), ('val', 2)):
        names = [f'n{number % 4:08}/{part}_{number}.JPEG' for number in range(count)]
        for name in names:
            _image(root / part / name, rng)
        (lists / f'{part}.txt').write_text(''.join(f'{name} {i % 4}\n' for i, name in enumerate(names)))
    parts = splits.split_imagenet(root / 'train', count=3, seed=0, ann_file=lists / 'train.txt')
    for stem, part in zip((splits.TRAIN, splits.SEARCH_VAL), parts):
        (lists / f'{stem}.txt').write_bytes(splits.lines(part))


def _make_digits(root: Path) -> None:
    make_digits(
        root, num_train=6, num_search_val=2, num_test=2, num_cls_train=10, num_cls_search_val=10, num_cls_test=10
    )  # fmt: skip


MAKERS = {'coco': make_coco, 'voc': make_voc, 'imagenet': make_imagenet, 'digits': _make_digits}
