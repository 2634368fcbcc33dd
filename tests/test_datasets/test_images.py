"""Image files that are missing or cannot be read are named, by one process and by a loader's workers."""

import json
import shutil

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS, DefaultScope

from detnas_mm.datasets.images import BrokenImageError, image_fault, missing_files, name_broken_images
from detnas_mm.evaluators.detection.batches import FixedBatches


@pytest.fixture(autouse=True)
def in_mmdet():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def cut(file):
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


BROKEN = {
    'empty': (lambda file: file.write_bytes(b''), 'is empty'),
    'HTML': (lambda file: file.write_text('<html>404</html>'), "is not an image: it begins with b'<html>404</html>'"),
    'truncated': (cut, 'is truncated or damaged'),
    'removed while it runs': (lambda file: file.unlink(), 'is missing'),
    'a folder': (lambda file: (file.unlink(), file.mkdir()), 'is a folder'),
}


@pytest.fixture(params=['jpg', 'png'])
def dataset(tmp_path, request):
    """Six images of 40x30 with a box each."""
    names = [f'{number}.{request.param}' for number in range(6)]
    for name in names:
        picture = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / name), picture)
    content = dict(
        images=[dict(id=key, file_name=name, width=40, height=30) for key, name in enumerate(names)],
        categories=[dict(id=1, name='cat')],
        annotations=[
            dict(id=key, image_id=key, category_id=1, bbox=[1, 2, 9, 8], area=72, iscrowd=0) for key in range(6)
        ],
    )
    (tmp_path / 'train.json').write_text(json.dumps(content))
    return dict(
        type='CocoDataset', data_root=str(tmp_path), ann_file='train.json', metainfo=dict(classes=('cat',)),
        data_prefix=dict(img=''), pipeline=[dict(type='LoadImageFromFile'), dict(type='PackDetInputs')],
    )  # fmt: skip


def walk(batches):
    return [item for _, data in batches.walk(range(len(batches))) for item in data['inputs']]


@pytest.mark.parametrize('num_workers', [0, 2])
@pytest.mark.parametrize('name', BROKEN)
def test_a_broken_image_is_named(tmp_path, dataset, name, num_workers):
    batches = FixedBatches(dict(dataset=dataset, batch_size=2, num_workers=num_workers), cache_mb=0)
    file = tmp_path / f'3.{"jpg" if (tmp_path / "3.jpg").exists() else "png"}'
    shutil.copy(file, tmp_path / 'whole')
    do, what = BROKEN[name]
    do(file)
    with pytest.raises(BrokenImageError) as caught:
        walk(batches)
    assert str(caught.value).startswith(f'The image {file} {what}') and '\n' not in str(caught.value)
    assert 'resume a search with the same command, a training with --resume' in str(caught.value)
    if name in ('empty', 'HTML'):  # what the library said goes into a log
        assert caught.value.__cause__ is not None
    shutil.rmtree(file, ignore_errors=True)
    shutil.copy(tmp_path / 'whole', file)
    assert len(walk(batches)) == 6


def test_missing_images_are_counted_before_anything_is_read(tmp_path, dataset):
    for file in tmp_path.glob('[34].*'):
        file.unlink()
    with pytest.raises(
        ValueError, match='2 of the 6 images of .*train.json do not exist, such as .*/3.*resume a search with'
    ):
        FixedBatches(dict(dataset=dataset, batch_size=2))
    few = FixedBatches(dict(dataset=dataset | dict(indices=3), batch_size=2))  # the missing ones are not read
    assert len(walk(few)) == 3


def test_missing_files(tmp_path):
    (tmp_path / 'a').touch()
    gone = [str(tmp_path / 'b'), str(tmp_path / 'nowhere' / 'a')]
    assert missing_files([str(tmp_path / 'a'), *gone, 's3://bucket/c']) == gone


def test_an_error_of_a_pipeline_is_no_broken_image(dataset):
    """A bug keeps its type and its traceback."""
    dataset['pipeline'] = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(20, 20), keep_ratio=True)]
    built = DATASETS.build(dataset)
    name_broken_images(built)
    built.pipeline.transforms[1].transform = lambda results: {}['a bug']
    with pytest.raises(KeyError, match='a bug'):
        built[0]


def test_whole_images_have_no_fault(tmp_path, dataset):
    assert not any(image_fault(str(file)) for file in [*tmp_path.glob('*.jpg'), *tmp_path.glob('*.png')])
