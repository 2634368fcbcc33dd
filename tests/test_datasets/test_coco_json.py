"""Valid and invalid COCO files; the latter give a one-line error."""

import copy
import json
import math

import pytest

from detnas_mm.datasets.coco_json import check_coco, coco_categories, coco_faults, fill_in, negative_boxes


def content():
    """Three images, the last without boxes; ids have gaps and do not ascend."""
    return dict(
        images=[dict(id=key, file_name=f'{key}.jpg', width=40, height=30) for key in (9, 2, 5)],
        categories=[dict(id=7, name='cat'), dict(id=3, name='dog')],
        annotations=[
            dict(id=key, image_id=(9, 2)[key % 2], category_id=7, bbox=[1, 2.5, 9, 8], area=72, iscrowd=0)
            for key in (30, 11, 12)
        ],
    )


def every(kind, key, value):
    return lambda data: [one.update({key: value}) for one in data[kind]]


def one(kind, key, value):
    return lambda data: data[kind][1].update({key: value})


def without(kind, key):
    return lambda data: data[kind][1].pop(key)


FAULTY = {
    'no area': (without('annotations', 'area'), r'annotation 11 has no area \(a number\) \(1 of 3 annotations\)'),
    'area as text': (
        every('annotations', 'area', '9'),
        r"annotation 30 has no area .*: area '9' \(3 of 3 annotations\)",
    ),
    'no height': (without('images', 'height'), r'image 2 has no height in pixels \(1 of 3 images\)'),
    'width of 0': (one('images', 'width', 0), r'image 2 has no width in pixels: width 0'),
    'no name of a file': (without('images', 'file_name'), r'image 2 has no file_name \(a string\)'),
    'empty box': (
        one('annotations', 'bbox', []),
        r'annotation 11 has no bbox of four finite numbers: bbox \[\] \(1 of 3',
    ),
    'no box': (without('annotations', 'bbox'), 'annotation 11 has no bbox of four'),
    'box of texts': (one('annotations', 'bbox', ['1', '2', '3', '4']), r"bbox \['1', '2', '3', '4'\]"),
    'box of three': (one('annotations', 'bbox', [1, 2, 3]), r'bbox \[1, 2, 3\]'),
    'box of nan': (one('annotations', 'bbox', [1, 2, 3, math.nan]), r'bbox \[1, 2, 3, nan\]'),
    'box of null': (one('annotations', 'bbox', [1, 2, 3, None]), r'bbox \[1, 2, 3, None\]'),
    'crowd as text': (
        one('annotations', 'iscrowd', '0'),
        "annotation 11 has an iscrowd other than 0 or 1: iscrowd '0'",
    ),
    'annotation ids repeat': (one('annotations', 'id', 12), r'annotation 12 has the id of another one \(1 of 3'),
    'image ids repeat': (one('images', 'id', 9), r'image 9 has the id of another one \(1 of 3 images\)'),
    'categories repeat': (one('categories', 'id', 7), 'category 7 has the id of another one'),
    'ids of two types': (one('images', 'id', '2'), r"image '2' has an id of another type than most \(1 of 3 images\)"),
    'no id': (without('annotations', 'id'), r'annotations\[1\] has no id \(a whole number\)'),
    'id of a fraction': (one('images', 'id', 2.5), r'images\[1\] has no id \(a whole number\)'),
    'unknown image': (
        one('annotations', 'image_id', 1),
        'annotation 11 has an image_id that is not in images: image_id 1 ',
    ),
    'image as text': (one('annotations', 'image_id', '9'), "not in images: image_id '9'"),
    'image by the text of its id': (one('annotations', 'image_id', '9'), "image_id '9', where 9 is listed"),
    'unknown category': (one('annotations', 'category_id', 8), 'not in categories: category_id 8'),
    'no category': (without('annotations', 'category_id'), 'annotation 11 has a category_id that is not in categories'),
    'no name': (without('categories', 'name'), 'category 3 has no name \\(a string\\)'),
    'fractions of the image': (
        every('annotations', 'bbox', [0.1, 0.1, 0.5, 0.5]),
        r'has the bbox \[0.1, 0.1, 0.5, 0.5\], in',
    ),
    'not a dict': (
        lambda data: data['images'].append(5),
        r'images\[3\] has no id \(a whole number\): 5 \(1 of 4 images\)',
    ),
}


@pytest.mark.parametrize('name', FAULTY)
def test_what_is_wrong_is_named_with_its_file(tmp_path, name):
    change, match = FAULTY[name]
    data, file = content(), tmp_path / 'train.json'
    change(data)
    file.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=f'train.json: .*{match}') as caught:
        check_coco(file)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'text, match', [('', 'is not JSON'), ('<html>', 'is not JSON'), ('[]', "lacks .'images', 'ca")]
)
def test_what_is_no_coco_file_is_named(tmp_path, text, match):
    (tmp_path / 'train.json').write_text(text)
    with pytest.raises(ValueError, match=f'train.json.*{match}'):
        check_coco(tmp_path / 'train.json')


RIGHT = {
    'as it is': lambda data: None,
    'no boxes': lambda data: data['annotations'].clear(),
    'a test set': lambda data: data.pop('annotations'),
    'no iscrowd': lambda data: [one.pop('iscrowd') for one in data['annotations']],
    'ignored ones without a box': lambda data: data['annotations'].append(
        dict(id=1, image_id=9, category_id=3, ignore=1)
    ),
    'some boxes that mmdet passes by': one('annotations', 'bbox', [50, 2, 3, 0]),
    'ids as texts': lambda data: (
        every('annotations', 'image_id', 'a')(data),
        data.update(images=[dict(data['images'][0], id='a')]),
    ),
    'categories of one name': one('categories', 'name', 'cat'),
    'one picture twice': every('images', 'file_name', 'x.jpg'),
}


@pytest.mark.parametrize('name', RIGHT)
def test_what_mmdet_reads_rightly_is_no_fault(name):
    data = content()
    RIGHT[name](data)
    before = copy.deepcopy(data)
    assert coco_faults(data) == [] and data == before


@pytest.mark.parametrize(('box', 'number'), [([9, 9, -3, 4], 1), ([9, 9, 3, -0.5], 1), ([9, 9, 0, 4], 0)])
def test_boxes_of_a_negative_size_are_found(box, number):
    data = content()
    assert negative_boxes(data) is None
    one('annotations', 'bbox', box)(data)
    data['annotations'].append(dict(id=99, image_id=9, category_id=7, ignore=1))
    assert coco_faults(data) == []
    fault = negative_boxes(data)
    assert (fault and str(fault)) == (
        f'annotation 11 has a negative width or height: bbox {box} (1 of 3 annotations)' if number else None
    )


def test_areas_are_filled_in():
    data = content()
    del data['annotations'][0]['area'], data['annotations'][0]['iscrowd']
    fill_in(data['annotations'])
    assert data == content()


def test_categories_are_read_again_when_a_file_has_changed(tmp_path):
    file = tmp_path / 'x.json'
    file.write_text(json.dumps(content()))
    assert coco_categories(file) == {7: 'cat', 3: 'dog'}
    file.write_text(json.dumps(content() | dict(categories=[dict(id=1, name='a bird')])))
    assert coco_categories(file) == {1: 'a bird'}
    file.write_text(json.dumps(content() | dict(categories=[dict(id=1)])))
    with pytest.raises(ValueError, match='x.json: category 1 has no name'):
        coco_categories(file)


@pytest.mark.parametrize(
    ('changes', 'match'),
    [
        (dict(annotations=5), 'annotations must be a list; got 5'),
        (dict(annotations=None), 'annotations must be a list; got None'),
        (dict(images=[], annotations=[]), 'has an empty list of images'),
    ],
)
def test_lists_that_are_none_are_named(tmp_path, changes, match):
    (tmp_path / 'a.json').write_text(json.dumps(content() | changes))
    with pytest.raises(ValueError, match=match):
        check_coco(tmp_path / 'a.json')


@pytest.mark.parametrize(('text', 'match'), [(b'\xef\xbb\xbf{}', 'a byte order mark'), (b'[' * 200_000, 'is not JSON')])
def test_files_that_mmdet_would_stumble_over(tmp_path, text, match):
    (tmp_path / 'a.json').write_bytes(text)
    with pytest.raises(ValueError, match=match):
        check_coco(tmp_path / 'a.json')


def test_areas_that_are_no_numbers_are_filled_in():
    data = content()
    data['annotations'][0]['area'], data['annotations'][1]['area'] = '12', math.nan
    fill_in(data['annotations'])
    assert [annotation['area'] for annotation in data['annotations']] == [72, 72, 72]
