"""Digits, what its pictures show: disjoint splits, tight boxes, sizes, clutter, and files that others can read."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detnas_mm.datasets import _digits_files as files
from detnas_mm.datasets import _digits_scenes as scenes
from detnas_mm.datasets import _digits_sources as sources
from detnas_mm.datasets.digits import CLASSES, CREDIT, METAINFO, make_digits

TINY = {
    'num_train': 40,
    'num_search_val': 20,
    'num_test': 20,
    'num_cls_train': 40,
    'num_cls_search_val': 20,
    'num_cls_test': 20,
}


def load(root, kind, split):
    return json.loads((root / 'annotations' / f'{kind}_{split}.json').read_text())


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """A small set that the tests may read."""
    root = tmp_path_factory.mktemp('digits')
    make_digits(root, **TINY, progress=False)
    return root


@pytest.fixture(scope='module')
def raw():
    from sklearn.datasets import load_digits, load_sample_images

    digits, photographs = load_digits(), load_sample_images()
    names = [Path(n).name for n in photographs.filenames]
    photos = sources.Photos(dict(zip(names, photographs.images, strict=True)))
    return sources.split_pools(digits.images, digits.target, 0), photos, digits


def used_digits(root, split):
    coco, crops = load(root, 'instances', split), load(root, 'crops', split)
    used = {a['source'] for a in coco['annotations']} | {c['source'] for c in crops}
    for picture in coco['images'] + crops:
        for piece in picture['clutter']:
            used |= set(piece['sources'])
    return used


def test_no_digit_is_in_two_splits(tiny):
    train, search_val, test = (used_digits(tiny, split) for split in sources.SPLITS)
    assert train and search_val and test
    assert not train & search_val and not train & test and not search_val & test


def test_the_pools_are_disjoint_complete_and_stratified(raw):
    pools, _, digits = raw
    everything = np.concatenate([pool.sources for pool in pools.values()])
    assert sorted(everything) == list(range(1797))
    for split, pool in pools.items():
        assert np.array_equal(pool.labels, digits.target[pool.sources])
        shares = np.bincount(pool.labels) / np.bincount(digits.target)
        assert np.allclose(shares, sources.POOL_SHARES[split], atol=0.01)


def test_labels_are_those_of_the_sources(tiny, raw):
    digits = raw[2]
    for split in sources.SPLITS:
        coco = load(tiny, 'instances', split)
        names = {c['id']: c['name'] for c in coco['categories']}
        assert all(names[a['category_id']] == str(digits.target[a['source']]) for a in coco['annotations'])
        assert all(c['label'] == digits.target[c['source']] for c in load(tiny, 'crops', split))
        assert all(Path(c['file_name']).parent.name == str(c['label']) for c in load(tiny, 'crops', split))


def test_backgrounds_of_two_splits_share_no_pixel(tiny):
    seen = {split: {} for split in sources.SPLITS}
    for split in sources.SPLITS:
        for picture in load(tiny, 'instances', split)['images'] + load(tiny, 'crops', split):
            photo, (x, y, side) = picture['background']['photo'], picture['background']['box']
            mask = seen[split].setdefault(photo, np.zeros((427, 640), bool))
            mask[y : y + side, x : x + side] = True
    assert {'china.jpg', 'flower.jpg'} == {photo for masks in seen.values() for photo in masks}
    for photo in ('china.jpg', 'flower.jpg'):
        assert np.sum([seen[split][photo] for split in sources.SPLITS], axis=0).max() == 1


def test_resampling_reads_nothing_outside_the_tile(raw):
    photos = raw[1]
    _, x, y, tile = photos.tiles['test'][0]
    marked = {'a.jpg': np.full((427, 640, 3), 255, np.uint8)}
    col, row = x // tile.width, y // tile.height
    marked['a.jpg'][row * 142 : row * 142 + 142, col * 128 : col * 128 + 128] = 0
    background = sources.Background('a.jpg', (x, y, 128), False, 1.0)
    assert sources.Photos(marked).cut(background, 'test', 96).max() == 0
    with pytest.raises(ValueError, match='is not within a tile'):
        sources.Photos(marked).cut(background, 'train', 96)


def test_scenes_hold_what_the_docs_say(raw):
    pools, photos, _ = raw
    plans = [
        scenes.plan_scene(scenes.picture_rng(0, 'train', scenes.SCENE, i), pools['train'], photos, 'train', 96)
        for i in range(200)
    ]
    assert {len(plan.digits) for plan in plans} == {1, 2, 3, 4}
    assert {len(plan.clutter) for plan in plans} == {0, 1, 2}
    assert {piece.kind for plan in plans for piece in plan.clutter} == set(scenes.CLUTTER_KINDS)
    heights = [piece.box[3] for plan in plans for piece in plan.digits]
    assert 13 <= min(heights) <= 16 and 56 <= max(heights) <= 61  # the height asked for, within a pixel
    assert max(heights) / min(heights) >= 4
    for plan in plans:
        for piece in plan.pieces:
            x, y, w, h = piece.box
            assert min(x, y) >= 0 and x + w <= 96 and y + h <= 96
            others = [other.box for other in plan.pieces if other is not piece]
            assert all(scenes._overlap(piece.box, box) <= scenes.MAX_OVERLAP for box in others)


@pytest.mark.parametrize('kind', [scenes.SCENE, scenes.CROP])
def test_boxes_are_tight(raw, kind):
    """A digit rendered alone, white on black, reaches the ink threshold exactly within its box."""
    pools, photos, _ = raw
    for index in range(20):
        rng = scenes.picture_rng(0, 'test', kind, index)
        if kind == scenes.SCENE:
            plan = scenes.plan_scene(rng, pools['test'], photos, 'test', 96)
        else:
            plan = scenes.plan_crop(rng, pools['test'], photos, 'test', 96, index % 10)
        dark = sources.Background(plan.background.photo, plan.background.box, False, 0.0)
        for piece in plan.digits:
            white = dataclasses.replace(piece, colour=np.full(3, 255, np.float32))
            ink = scenes.render(scenes.Plan(plan.size, dark, (white,)), photos, 'test', None)[..., 0] >= scenes.INK
            rows, cols = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
            assert (cols[0], rows[0], cols[-1] - cols[0] + 1, rows[-1] - rows[0] + 1) == piece.box


def test_digits_are_brighter_than_what_is_behind_them(raw):
    pools, photos, _ = raw
    for index in range(20):
        plan = scenes.plan_scene(scenes.picture_rng(0, 'train', 0, index), pools['train'], photos, 'train', 96)
        full = scenes.render(plan, photos, 'train', None).astype(int)
        empty = scenes.render(scenes.Plan(96, plan.background, ()), photos, 'train', None).astype(int)
        assert (full >= empty).all()
        for piece in plan.digits:
            assert 130 * 0.79 <= piece.colour.mean() <= 130 * 1.21


def test_clutter_is_made_of_digits_and_is_like_none(raw):
    pool = raw[0]['search_val']
    rng = np.random.default_rng(0)
    for _ in range(100):
        kind, label, used, glyph = scenes._draw_clutter(rng, pool)
        assert label is None and set(used) <= set(pool.sources) and len(used) == (2 if kind == 'halves' else 1)
        assert pool.likeness(glyph) < scenes.CLUTTER_LIKENESS
    assert pool.likeness(pool.images[3]) == pytest.approx(1)


# -- what others read -------------------------------------------------------------------------------------------------


def test_pycocotools_and_pillow_read_it(tiny):
    coco_module = pytest.importorskip('pycocotools.coco')
    for split in sources.SPLITS:
        coco = coco_module.COCO(str(tiny / 'annotations' / f'instances_{split}.json'))
        assert len(coco.imgs) == TINY[f'num_{split}'] == len(list((tiny / split).iterdir()))
        assert [c['name'] for c in coco.loadCats(coco.getCatIds())] == list(CLASSES)
        for image in coco.imgs.values():
            with Image.open(tiny / split / image['file_name']) as picture:
                assert picture.size == (96, 96) and picture.mode == 'RGB'
            assert coco.getAnnIds(image['id'])


def test_class_folders_are_even(tiny):
    for split in sources.SPLITS:
        folders = sorted((tiny / 'cls' / split).iterdir())
        assert [f.name for f in folders] == list(CLASSES)
        assert {len(list(f.glob('*.png'))) for f in folders} == {TINY[f'num_cls_{split}'] // 10}
    with Image.open(tiny / load(tiny, 'crops', 'train')[0]['file_name']) as picture:
        assert picture.size == (48, 48)


@pytest.mark.parametrize('side', [1, 48, 147, 160])  # below and above one stored block
def test_pngs_come_back_as_they_were(side):
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    data = files.encode_png(pixels)
    assert len(data) == files.png_size(side)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
    cv2 = pytest.importorskip('cv2')
    assert np.array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1], pixels)


def test_metainfo_and_credit(tiny):
    assert METAINFO['classes'] == CLASSES and len(set(METAINFO['palette'])) == 10
    for name in ('danielbuechele', 'vultilion', 'licenses/by/2.0'):
        assert name in CREDIT
    assert (tiny / files.CREDITS).read_text().strip() == CREDIT
    assert load(tiny, 'instances', 'test')['info']['credit'] == CREDIT


def test_mmdet_and_mmpretrain_read_it(tiny):
    mmdet = pytest.importorskip('mmdet.datasets')
    mmpretrain = pytest.importorskip('mmpretrain.datasets')
    scenes_set = mmdet.CocoDataset(
        ann_file='annotations/instances_train.json',
        data_root=str(tiny),
        data_prefix={'img': 'train/'},
        metainfo=METAINFO,
        filter_cfg={'filter_empty_gt': True, 'min_size': 0},
        pipeline=[],
    )
    assert len(scenes_set) == TINY['num_train']
    assert {i['bbox_label'] for n in range(len(scenes_set)) for i in scenes_set.get_data_info(n)['instances']} == set(
        range(10)
    )
    crops_set = mmpretrain.CustomDataset(data_root=str(tiny), data_prefix='cls/train', pipeline=[])
    assert list(crops_set.CLASSES) == list(CLASSES) and len(crops_set) == TINY['num_cls_train']
