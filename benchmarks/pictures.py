"""Data sets of many files that are links to a few synthetic images. Used by rehearsal.py; not a script."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import mmcv
import numpy as np

WIDTH, HEIGHT, PICTURES, BOXES = 640, 480, 16, 7


def draw(folder: Path) -> list[Path]:
    """Writes images of 640x480 with about the file size of COCO's, 160 KB."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    paths = []
    for number in range(PICTURES):
        coarse = rng.integers(0, 256, (HEIGHT // 32, WIDTH // 32, 3)).astype(np.uint8)
        picture = mmcv.imresize(coarse, (WIDTH, HEIGHT)) + rng.normal(0, 11, (HEIGHT, WIDTH, 3))
        paths.append(folder / f'{number}.jpg')
        mmcv.imwrite(picture.clip(0, 255).astype(np.uint8), str(paths[-1]))
    return paths


def link(pictures: Sequence[Path], paths: Iterable[Path]) -> None:
    """Links these names to the images in turn; copies an image if the file system allows no more links."""
    links = list(pictures)
    for number, path in enumerate(paths):
        which = number % len(links)
        try:
            os.link(links[which], path)
        except OSError as error:
            if error.errno != errno.EMLINK:
                raise
            links[which] = Path(shutil.copy(links[which], path))  # ext4 allows 65,000


def boxes(count: int) -> np.ndarray:
    """Returns boxes as (left, top, width, height) in whole pixels, shape (count, 7, 4)."""
    rng = np.random.default_rng(count)
    size = rng.uniform(0.08, 0.5, (count, BOXES, 2)) * (WIDTH, HEIGHT)
    corner = rng.uniform(0, 1, (count, BOXES, 2)) * ((WIDTH, HEIGHT) - size)
    return np.concatenate([corner, size], -1).astype(int)


def coco(root: Path, search_val: int, train: int) -> None:
    """Makes COCO as after split_coco.py: ``train2017/`` and two annotation files, with polygons as long as COCO's."""
    from mmdet.datasets import CocoDataset

    names = CocoDataset.METAINFO['classes']
    categories = [dict(id=number + 1, name=name) for number, name in enumerate(names)]
    pictures = draw(root / 'pictures')
    for folder in ('train2017', 'annotations'):
        (root / folder).mkdir()
    link(pictures, (root / 'train2017' / f'{n:012d}.jpg' for n in range(search_val + train)))
    outline = json.dumps([list(range(100, 148))])
    for name, first, count in (('search_val', 0, search_val), ('train', search_val, train)):
        images = ','.join(
            f'{{"id":{n},"file_name":"{n:012d}.jpg","width":{WIDTH},"height":{HEIGHT}}}'
            for n in range(first, first + count)
        )
        annotations = ','.join(
            f'{{"id":{(first + n) * BOXES + i + 1},"image_id":{first + n},"category_id":{(n + i) % len(names) + 1},'
            f'"bbox":{box},"area":{box[2] * box[3]},"iscrowd":0,"segmentation":{outline}}}'
            for n, of_image in enumerate(boxes(count).tolist())
            for i, box in enumerate(of_image)
        )
        text = f'{{"images":[{images}],"annotations":[{annotations}],"categories":{json.dumps(categories)}}}'
        (root / 'annotations' / f'detnas_{name}.json').write_text(text)


def voc(root: Path, search_val: int, train: int) -> None:
    """Makes VOC2007 and VOC2012 as after split_voc.py; 3 of 10 images are in VOC2007."""
    from mmdet.datasets import VOCDataset

    names = VOCDataset.METAINFO['classes']
    pictures = draw(root / 'pictures')
    notes = [root / 'pictures' / f'{number}.xml' for number in range(PICTURES)]
    for number, (path, of_image) in enumerate(zip(notes, boxes(PICTURES).tolist(), strict=True)):
        objects = ''.join(
            f'<object><name>{names[(number + i) % len(names)]}</name><difficult>0</difficult><bndbox>'
            f'<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>'
            for i, (x, y, w, h) in enumerate(of_image)
        )
        size = f'<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>'
        path.write_text(f'<annotation>{size}{objects}</annotation>')
    for year, share in ((2007, 0.3), (2012, 0.7)):
        folder = root / f'VOC{year}'
        for part in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
            (folder / part).mkdir(parents=True)
        for name, count in (('search_val', search_val), ('train', train)):
            ids = [f'{year}_{name}_{n}' for n in range(round(count * share))]
            (folder / 'ImageSets' / 'Main' / f'detnas_{name}.txt').write_text(''.join(f'{one}\n' for one in ids))
            link(pictures, (folder / 'JPEGImages' / f'{one}.jpg' for one in ids))
            link(notes, (folder / 'Annotations' / f'{one}.xml' for one in ids))


def imagenet(root: Path, search_val: int, train: int) -> None:
    """Makes ImageNet as after split_imagenet.py, in 1,000 class folders."""
    pictures = draw(root / 'pictures')
    for label in range(1000):
        (root / 'train' / f'n{label:08d}').mkdir(parents=True)
    (root / 'meta').mkdir()
    for name, count in (('search_val', search_val), ('train', train)):
        files = [f'n{n % 1000:08d}/{name}_{n}.JPEG' for n in range(count)]
        link(pictures, (root / 'train' / file for file in files))
        text = ''.join(f'{file} {n % 1000}\n' for n, file in enumerate(files))
        (root / 'meta' / f'detnas_{name}.txt').write_text(text)
