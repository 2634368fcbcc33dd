"""Annotations that do not belong to the images that are read, or number classes in another way, are refused."""

import copy
import json

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS, DefaultScope

from detnas_mm.evaluators.detection import metrics
from detnas_mm.evaluators.detection.batches import FixedBatches
from detnas_mm.evaluators.detection.truth import check_categories, compare_truth

CLASSES = ('cat', 'traffic light', 'car')


@pytest.fixture(autouse=True)
def in_mmdet():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture
def content():
    """A COCO file of six images of 40x30 with two boxes each; ids of categories have gaps and do not ascend."""
    rng = np.random.default_rng(0)
    boxes = [[*rng.integers(0, 15, 2).tolist(), *rng.integers(5, 15, 2).tolist()] for _ in range(12)]
    return dict(
        images=[dict(id=i, width=40, height=30, file_name='x.png') for i in range(1, 7)],
        categories=[dict(id=key, name=name) for key, name in zip((7, 3, 12), CLASSES, strict=True)],
        annotations=[
            dict(id=n, image_id=n // 2 + 1, category_id=(7, 3, 12)[n % 3], bbox=box, area=box[2] * box[3], iscrowd=0)
            for n, box in enumerate(boxes)
        ],
    )


@pytest.fixture
def write(tmp_path):
    cv2.imwrite(str(tmp_path / 'x.png'), np.zeros((30, 40, 3), dtype=np.uint8))

    def write(name, content):
        (tmp_path / name).write_text(json.dumps(content))
        return str(tmp_path / name)

    return write


def images(file, classes=CLASSES, **changes):
    cfg = dict(
        type='CocoDataset', ann_file=file, data_prefix=dict(img=file.rpartition('/')[0]), test_mode=True,
        metainfo=dict(classes=classes), pipeline=[dict(type='LoadImageFromFile'), dict(type='PackDetInputs')],
    )  # fmt: skip
    return cfg | changes


def judged(dataset, file, kind='CocoMetric'):
    """The metric of a search-val, as an evaluator sets it up."""
    batches = FixedBatches(dict(dataset=dataset, batch_size=2))
    cfg = dict(type=kind) if file is None else dict(type=kind, ann_file=file)
    metric = metrics.build_metric(cfg, batches.metainfo)
    compare_truth(metric, cfg, batches.dataset, batches.indices)
    return metric


def results(content, classes=CLASSES):
    """Returns results as a metric's ``process`` collects them, for a detector that finds half of the boxes."""
    rng = np.random.default_rng(1)
    labels = {one['id']: classes.index(one['name']) for one in content['categories'] if one['name'] in classes}
    rows = []
    for image in content['images']:
        own = [a for a in content['annotations'] if a['image_id'] == image['id'] and a['category_id'] in labels]
        boxes = np.array([a['bbox'] for a in own], dtype=np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        boxes += rng.choice([0, 2], boxes.shape).astype(np.float32)
        found = dict(bboxes=boxes, scores=rng.uniform(0.1, 1, len(own)).astype(np.float32))
        found |= dict(img_id=image['id'], labels=np.array([labels[a['category_id']] for a in own], dtype=int))
        rows.append((dict(width=40, height=30, img_id=image['id']), found))
    return rows


def cut(content, count):
    """The same without all images but the first ones."""
    kept = content['images'][:count]
    ids = {image['id'] for image in kept}
    return content | dict(images=kept, annotations=[a for a in content['annotations'] if a['image_id'] in ids])


@pytest.mark.parametrize('kind', ['CocoMetric', 'FasterCocoMetric'])
def test_files_that_belong_together_give_the_scores_that_they_gave(content, write, kind):
    file = write('val.json', content)
    plain = metrics.build_metric(dict(type=kind, ann_file=file), dict(classes=CLASSES))
    found = metrics.compute(judged(images(file), file, kind), results(content))
    assert found == metrics.compute(plain, results(content))
    assert 0 < found['coco/bbox_mAP'] < 1


def test_the_metric_judges_by_the_images_that_are_read(content, write, capsys):
    few, file = write('few.json', cut(content, 4)), write('val.json', content)
    wanted = metrics.compute(judged(images(few), few), results(content)[:4])
    for dataset in (images(file, indices=4), images(few)):
        assert metrics.compute(judged(dataset, file), results(content)[:4]) == wanted
    content['annotations'] = cut(content, 4)['annotations']
    empty = write('empty.json', content)
    filtered = images(empty, test_mode=False, filter_cfg=dict(filter_empty_gt=True))
    assert metrics.compute(judged(filtered, empty), results(content)[:4]) == wanted
    plain = metrics.build_metric(dict(type='CocoMetric', ann_file=file), dict(classes=CLASSES))
    assert metrics.compute(plain, results(content)[:4]) != wanted  # what it would say: two images are missed


def test_a_share_of_the_images_is_judged_as_a_set_of_these(content, write):
    """As racing does, on any images of the set."""
    file, kept = write('val.json', content), content['images'][1:4]
    ids = {one['id'] for one in kept}
    own = [one for one in content['annotations'] if one['image_id'] in ids]
    few = write('few.json', content | dict(images=kept, annotations=own))
    wanted = metrics.compute(judged(images(few), few), results(content)[1:4])
    found = metrics.compute(judged(images(file), file), results(content)[1:4], part=True)
    assert {name: found[name] for name in wanted} == wanted and wanted['coco/bbox_mAP'] > 0


def other_ids(content):
    for one in content['images']:
        one['id'] += 100
    for one in content['annotations']:
        one['image_id'] += 100


def fewer_images(content):
    content.update(cut(content, 5))


def ids_as_texts(content):
    for one in content['images']:
        one['id'] = str(one['id'])
    for one in content['annotations']:
        one['image_id'] = str(one['image_id'])


def other_boxes(content):
    content['annotations'][7]['bbox'][2] += 9


def other_classes(content):
    for one in content['annotations']:
        one['category_id'] = {7: 3, 3: 12, 12: 7}[one['category_id']]


def no_boxes(content):
    content['annotations'] = content['annotations'][:-2]


@pytest.mark.parametrize(
    'change, match',
    [
        (other_ids, "6 of the 6 image ids of .*val.json are not in .*other.json.* such as 1. Set"),
        (ids_as_texts, "6 of the 6 image ids"),
        (fewer_images, "1 of the 6 image ids .* such as 6. Set"),
        (other_boxes, r'Image 4 \(.*x.png\) has boxes in .*val.json that are not, with .*, in .*other.json'),
        (other_classes, 'Image 1 .* has boxes in .*val.json that are not, with the same classes, in .*other.json'),
        (no_boxes, 'Image 6 .* has boxes in'),
    ],
    ids=['other ids', 'texts', 'fewer', 'other boxes', 'other classes', 'no boxes'],
)  # fmt: skip
def test_annotations_of_other_images_are_refused(content, write, change, match):
    file, other = write('val.json', content), copy.deepcopy(content)
    change(other)
    with pytest.raises(ValueError, match=match):
        judged(images(file), write('other.json', other))


def test_annotations_may_come_from_elsewhere(content, write):
    """VOC's boxes are a pixel off, and a dataset need not have any."""
    file, moved, bare = (copy.deepcopy(content) for _ in range(3))
    for one in moved['annotations']:
        one['bbox'][0] += 1
    bare['annotations'] = []
    file = write('val.json', file)
    assert judged(images(write('bare.json', bare)), file).img_ids == [1, 2, 3, 4, 5, 6]
    assert judged(images(file), write('moved.json', moved)).img_ids == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize('with_file', [True, False])
@pytest.mark.parametrize('wrapper', ['ConcatDataset', 'RepeatDataset'])
def test_images_whose_ids_come_twice_are_refused(content, write, wrapper, with_file):
    file = write('val.json', content)
    wrapped = dict(datasets=[images(file)] * 2) if wrapper == 'ConcatDataset' else dict(dataset=images(file), times=2)
    with pytest.raises(ValueError, match=r'Image ids occur more than once in .*/val.json, such as 1 \(6 in all\):'):
        judged(dict(type=wrapper, **wrapped), file if with_file else None)


def test_parts_of_one_set_are_no_fault(content, write):
    first, second = write('a.json', cut(content, 3)), copy.deepcopy(content)
    second['images'] = second['images'][3:]
    second['annotations'] = [a for a in second['annotations'] if a['image_id'] > 3]
    both = dict(type='ConcatDataset', datasets=[images(first), images(write('b.json', second))])
    file = write('val.json', content)
    wanted = metrics.compute(judged(images(file), file), results(content))
    assert metrics.compute(judged(both, file), results(content)) == wanted


def test_other_metrics_are_left_alone(content, write):
    file = write('val.json', content)
    judged(dict(type='RepeatDataset', dataset=images(file), times=2), None, 'VOCMetric')


def test_what_a_pipeline_read_in_the_place_of_others_is_found_while_judging(content, write):
    file = write('val.json', content)
    metric, rows = judged(images(file), file), results(content)
    with pytest.raises(
        ValueError, match='Image ids occur more than once in the images that were read .a pipeline that drops'
    ):
        metrics.compute(metric, [*rows[:5], rows[0]])
    rows[2][1]['img_id'] = 99
    with pytest.raises(ValueError, match='1 of the 6 image ids .* such as 99'):
        metrics.compute(metric, rows)
    assert metrics.compute(metric, rows[:2], part=True)


def reordered(content):
    content['categories'].reverse()


def renamed(content):
    content['categories'][1]['name'] = 'traffic_light'


def named_twice(content):
    content['categories'].insert(1, dict(id=99, name='cat'))


@pytest.mark.parametrize(
    'change, match',
    [
        (reordered, "Label 0 is 'car' in .*bad.json, but 'cat' in metainfo.classes: .* order of the training json"),
        (renamed, "bad.json lacks 1 of the 3 names of metainfo.classes, such as 'traffic light'; .*'traffic_light'"),
        (named_twice, r"bad.json has 2 categories named 'cat' \(ids .*\), which metainfo.classes selects: mmdet"),
    ],
    ids=['reordered', 'renamed', 'named twice'],
)
def test_categories_that_are_numbered_in_another_way_are_refused(content, write, change, match):
    good, bad = write('good.json', content), copy.deepcopy(content)
    change(bad)
    bad = write('bad.json', bad)
    judged(images(good), good)
    with pytest.raises(ValueError, match=match):  # search-val, and calibration
        FixedBatches(dict(dataset=images(bad), batch_size=2))
    with pytest.raises(ValueError, match=match):
        judged(images(good), bad)
    with pytest.raises(ValueError, match=match):
        both = dict(type='ConcatDataset', datasets=[images(good), images(bad)])
        check_categories(DATASETS.build(dict(type='RepeatDataset', dataset=both, times=2)))


def test_metainfo_that_was_forgotten_is_refused(content, write):
    """CocoDataset then has the 80 names of COCO."""
    cfg = images(write('val.json', content))
    with pytest.raises(ValueError, match=r"lacks 77 of the 80 names of metainfo.classes, such as 'person'; its cat"):
        FixedBatches(dict(dataset={key: value for key, value in cfg.items() if key != 'metainfo'}, batch_size=2))


@pytest.mark.parametrize('classes', [('cat', 'car'), ['traffic light', 'car'], ('car',), CLASSES])
def test_some_of_the_categories_in_the_order_of_the_file_are_no_fault(content, write, classes):
    file = write('val.json', content)
    found = metrics.compute(judged(images(file, classes), file), results(content, classes))
    assert 0 < found['coco/bbox_mAP'] < 1
    with pytest.raises(ValueError, match="Label 0 is 'cat' in"):
        judged(images(file, ('car', 'cat')), file)


@pytest.mark.parametrize('extra', [dict(info=dict(categories=[])), dict(info='"categories": [')])
def test_categories_are_found_in_any_file(content, write, extra):
    reordered(content)
    for whole in (content | extra, extra | content):
        with pytest.raises(ValueError, match="Label 0 is 'car'"):
            FixedBatches(dict(dataset=images(write('bad.json', whole)), batch_size=2))
