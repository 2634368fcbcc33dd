import contextlib
import io
import json
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.detection import coco_boxes, metrics
from detnas_mm.evaluators.detection.box_metric import BoxMetric


def built(classes='abc', kind='CocoMetric', **settings):
    with DefaultScope.overwrite_default_scope('mmdet'):
        return metrics.build_metric(dict(type=kind, **settings), dict(classes=tuple(classes)))


def test_the_spec_follows_contents_and_settings_and_not_the_folder(tmp_path):
    from mmdet.evaluation import CocoMetric

    files = []
    for name, text in (('a', 'boxes'), ('b', 'boxes'), ('c', 'others')):
        (tmp_path / name).mkdir()
        files.append(tmp_path / name / 'instances.json')
        files[-1].write_text(text)
    metric = BoxMetric()
    first, same, other = (metrics.metric_spec(metric, dict(type='CocoMetric', ann_file=str(f))) for f in files)
    assert first == same != other
    assert first['metric'] == 'CocoMetric' and first['metric_engine'] == 'pycocotools'
    file = str(files[0])
    assert metrics.metric_spec(metric, dict(type='CocoMetric', ann_file=file, metric=['bbox'])) != first
    for kind in ('mmdet.FasterCocoMetric', CocoMetric):  # the same engine, and the same class
        assert metrics.metric_spec(metric, dict(type=kind, ann_file=file)) == first


@pytest.mark.parametrize('kind', ['FasterCocoMetric', 'mmdet.FasterCocoMetric'])
def test_a_metric_that_the_family_lacks_has_a_stand_in(kind, monkeypatch):
    wanted = dict(type=kind, metric='bbox')
    monkeypatch.setattr(metrics, '_has_faster_coco', lambda: False)
    assert metrics.available(wanted) == dict(type='mmdet.CocoMetric', metric='bbox')
    assert metrics.available([wanted]) == [dict(type='mmdet.CocoMetric', metric='bbox')]
    assert wanted['type'] == kind
    monkeypatch.setattr(metrics, '_has_faster_coco', lambda: True)
    assert metrics.available(wanted) == wanted


def test_the_family_at_hand_has_what_its_mmdet_has():
    import mmdet.evaluation

    assert metrics._has_faster_coco() == hasattr(mmdet.evaluation, 'FasterCocoMetric')


def test_more_than_one_metric_is_refused():
    with pytest.raises(ValueError, match='one metric; got 2'):
        metrics.build_metric([dict(type='CocoMetric'), dict(type='VOCMetric')], {})


def coco_results(tmp_path, images=12, seed=0):
    """An annotation file, and what a metric's ``process`` collects of many boxes for it."""
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for image in range(images):
        corners = rng.uniform(0, 60, (4, 2))
        sizes = rng.uniform(5, 40, (4, 2))
        labels = rng.integers(0, 3, 4)
        for corner, size, label in zip(corners, sizes, labels, strict=True):
            box = [*corner.tolist(), *size.tolist()]
            annotations.append(
                dict(id=len(annotations) + 1, image_id=10 * image, category_id=int(label) + 5, bbox=box,
                     area=box[2] * box[3], iscrowd=0)
            )  # fmt: skip
        boxes = np.concatenate([corners, corners + sizes], 1)
        boxes = np.concatenate([boxes + rng.normal(0, s, boxes.shape) for s in (1, 3, 9)]).astype(np.float32)
        scores = rng.uniform(0.1, 1, len(boxes)).astype(np.float32)
        result = dict(img_id=10 * image, bboxes=boxes, scores=scores, labels=np.tile(labels, 3))
        results.append((dict(width=100, height=100, img_id=10 * image), result))
    content = dict(
        images=[dict(id=10 * i, width=100, height=100, file_name=f'{i}.png') for i in range(images)],
        categories=[dict(id=i + 5, name=name) for i, name in enumerate('abc')],
        annotations=annotations,
    )
    (tmp_path / 'instances.json').write_text(json.dumps(content))
    return dict(ann_file=str(tmp_path / 'instances.json')), results


def pycocos(content, results, classes, kind, images=None, **settings):
    """Returns the numbers by name, and precision, of pycocotools' own classes with mmdet's inputs."""
    ids = {one['name']: one['id'] for one in content['categories']}
    cat_ids = [one['id'] for one in content['categories'] if one['name'] in classes]
    assert [ids[name] for name in classes] == cat_ids
    truth = COCO()
    truth.dataset = content
    rows = []
    for _, result in results:
        boxes = result['bboxes'].astype(float)
        boxes[:, 2:] -= boxes[:, :2]
        for box, score, label in zip(boxes.tolist(), result['scores'].tolist(), result['labels'], strict=True):
            rows.append(dict(image_id=result['img_id'], bbox=box, score=score, category_id=cat_ids[label]))
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found = COCOeval(truth, truth.loadRes(rows), 'bbox')
        found.params.catIds, found.params.useCats = cat_ids, int(kind == 'bbox')
        found.params.maxDets = list(settings.get('proposal_nums', (100, 300, 1000)))
        found.params.iouThrs = np.array(settings.get('iou_thrs', np.linspace(0.5, 0.95, 10)))
        if images is not None:
            found.params.imgIds = images
        found.evaluate()
        found.accumulate()
        found.summarize()
    return dict(zip(coco_boxes.STATISTICS, found.stats, strict=True)), found.eval['precision']


def hard_results(seed, images=30, classes=6, gaps=True):
    """Crowds, ties of scores, empty images, all sizes, ids with gaps that do not ascend, annotations that do not."""
    rng = np.random.default_rng(seed)
    ids = (rng.permutation(images) * 7 + 3 if gaps else np.arange(images)).tolist()
    numbers = (rng.permutation(classes) * 5 + 2 if gaps else np.arange(classes)).tolist()
    annotations, results = [], []
    for image in ids:
        count = int(rng.integers(0, 8))
        corners, sizes = (
            rng.uniform(0, 300, (count, 2)),
            rng.choice([12, 60, 200], (count, 1)) * rng.uniform(0.5, 1.4, (count, 2)),
        )
        labels = rng.integers(0, classes, count)
        for corner, size, label in zip(corners, sizes, labels, strict=True):
            box, area = [*corner.tolist(), *size.tolist()], float(size.prod() * rng.choice([1, 0.6]))
            annotations.append(
                dict(id=0, image_id=image, category_id=numbers[label], bbox=box, area=area,
                     iscrowd=int(rng.random() < 0.15))
            )  # fmt: skip
        boxes = np.concatenate([corners, corners + sizes], 1)
        boxes = np.concatenate(
            [*(boxes + rng.normal(0, s, boxes.shape) for s in (1, 4, 20)), rng.uniform(0, 400, (5, 4))]
        )
        found = np.concatenate([labels, labels, rng.integers(0, classes, count), rng.integers(0, classes, 5)])
        scores = np.round(rng.uniform(0.1, 1, len(boxes)), 1).astype(np.float32)
        truth = dict(width=500, height=500, img_id=image)
        results.append(
            (truth, dict(img_id=image, bboxes=boxes.astype(np.float32), scores=scores, labels=found.astype(int)))
        )
    rng.shuffle(annotations)
    for number, one in enumerate(annotations, 1):
        one['id'] = number
    content = dict(
        images=[dict(id=one, width=500, height=500, file_name=f'{one}.png') for one in ids],
        categories=[dict(id=one, name=name) for one, name in zip(numbers, 'abcdefgh', strict=False)],
        annotations=annotations,
    )
    return content, results


@pytest.fixture(params=['hotcoco', 'pycocotools'])
def engine(request, monkeypatch):
    """Each engine; without hotcoco the other one takes its place."""
    if request.param == 'pycocotools':
        monkeypatch.setitem(sys.modules, 'hotcoco', None)
    return request.param


@pytest.mark.parametrize(
    'settings',
    [
        {}, dict(classwise=True), dict(metric=['bbox', 'proposal']), dict(proposal_nums=(1, 10, 100)),
        dict(iou_thrs=[0.3, 0.5, 0.6]), dict(metric_items=['mAP', 'AR@100', 'AR_l@1000']), dict(metric='proposal'),
    ],
    ids=repr,
)  # fmt: skip
def test_values_equal_those_of_pycocotools_to_the_bit(tmp_path, engine, settings):
    file = tmp_path / 'instances.json'
    for seed, gaps in product(range(3), (False, True)):
        content, results = hard_results(seed, gaps=gaps)
        file.write_text(json.dumps(content))
        metric = built('abcdef', ann_file=str(file), **settings)
        assert type(metric) is BoxMetric
        for rows in (results, results[4:15]):
            part = len(rows) < len(results)
            images = [result['img_id'] for _, result in rows] if part else None
            found, wanted = metrics.compute(metric, rows, part), {}
            for kind in metric.metrics:
                stats, precision = pycocos(content, rows, 'abcdef', kind, images, **settings)
                names = (
                    settings.get('metric_items') or coco_boxes.STATISTICS[slice(*((6,) if kind == 'bbox' else (6, 12)))]
                )
                wanted |= {f'coco/{"bbox_" if kind == "bbox" else ""}{name}': stats[name] for name in names}
                if settings.get('classwise'):
                    for place, category in enumerate(sorted(content['categories'], key=lambda one: one['id'])):
                        there = precision[:, :, place, 0, -1]
                        there = there[there > -1]
                        wanted[f'coco/{category["name"]}_precision'] = np.mean(there) if there.size else -1
            assert found == {name: value for name, value in wanted.items() if part or value != -1}
            assert len(found) >= 3


def test_pycocotools_in_the_place_of_hotcoco_is_said_once(tmp_path, monkeypatch, capsys):
    cfg, results = coco_results(tmp_path)
    monkeypatch.setitem(sys.modules, 'hotcoco', None)
    metric = built(**cfg)
    assert capsys.readouterr().out.count('pycocotools computes the same values') == 1
    assert metrics.compute(metric, results) and 'pycocotools' not in capsys.readouterr().out


def test_some_of_the_categories_in_the_order_of_the_file(tmp_path, engine):
    content, results = hard_results(7)
    (tmp_path / 'instances.json').write_text(json.dumps(content))
    for _, result in results:
        result['labels'] %= 3
    found = metrics.compute(built('bdf', ann_file=str(tmp_path / 'instances.json')), results)
    wanted, _ = pycocos(content, results, 'bdf', 'bbox')
    assert found['coco/bbox_mAP'] == wanted['mAP'] > 0


def test_it_agrees_with_mmdets_own_to_its_three_decimals(tmp_path):
    from mmdet.evaluation import CocoMetric

    cfg, results = coco_results(tmp_path)
    found = metrics.compute(built(**cfg, metric=['bbox', 'proposal']), results)
    own = CocoMetric(**cfg, metric=['bbox', 'proposal'])
    own.dataset_meta = dict(classes=tuple('abc'))
    for name, value in own.compute_metrics(results).items():
        assert round(found.get(f'coco/{name}', -1), 3) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(
    'settings', [dict(metric=['bbox', 'segm']), dict(outfile_prefix='x'), dict(metric='proposal_fast')], ids=repr
)
def test_what_stays_with_mmdet(tmp_path, settings):
    from mmdet.evaluation import CocoMetric

    assert type(built(**coco_results(tmp_path)[0], **settings)) is CocoMetric


def test_a_subclass_computes_what_it_computes(tmp_path):
    from mmdet.evaluation import CocoMetric
    from mmdet.registry import METRICS

    @METRICS.register_module()
    class MyCocoMetric(CocoMetric):
        def compute_metrics(self, results):
            return dict(bbox_mAP=0.5)

    cfg, results = coco_results(tmp_path)
    try:
        assert metrics.compute(built(kind='MyCocoMetric', **cfg), results) == {'coco/bbox_mAP': 0.5}
    finally:
        METRICS.module_dict.pop('MyCocoMetric')


def test_values_that_are_not_finite_make_no_score(tmp_path):
    cfg, results = coco_results(tmp_path)
    results[3][1]['scores'][2] = np.nan
    assert np.isnan(metrics.compute(built(**cfg), results)['coco/bbox_mAP'])


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(proposal_nums=(100, 300)), 'proposal_nums must be three numbers, such as .*; got'),
        (dict(metric_items=['mAP', 'mAP_42']), "metric_items has the unknown item 'mAP_42'. Items: mAP, mAP_50"),
        (dict(metric='box'), 'metric should be one of'),
        (dict(iou_thrs='high'), "iou_thrs must be numbers from 0 to 1; got 'high'"),
        (dict(metrics='bbox'), "CocoMetric has no argument 'metrics'; it takes ann_file, metric"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(DetNASError, match=message):
        built(**settings)


def test_images_without_annotations_need_an_annotation_file():
    with pytest.raises(DetNASError, match='has no ann_file, and images have no annotations'):
        built().process({}, [dict(img_id=1)])


@pytest.mark.parametrize('threads', [1, 2])
def test_it_takes_as_many_threads_as_torch_has(tmp_path, threads, monkeypatch):
    monkeypatch.delenv('RAYON_NUM_THREADS', raising=False)
    cfg, _ = coco_results(tmp_path)
    code = f"""
import os, torch
torch.set_num_threads({threads})
from tests.test_evaluators.test_metrics import built, coco_results, metrics
from pathlib import Path
before = len(os.listdir('/proc/self/task'))
metrics.compute(built(ann_file={cfg['ann_file']!r}), coco_results(Path({str(tmp_path)!r}))[1])
print(len(os.listdir('/proc/self/task')) - before)
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) == threads, done.stderr


@pytest.mark.parametrize('kind', ['CocoMetric', 'FasterCocoMetric'])
def test_truth_that_comes_with_the_results_is_that_of_the_results(tmp_path, kind):
    """The one that mmdet makes of the first results it keeps: with racing those of a share of the images."""
    cfg, results = coco_results(tmp_path)
    annotations = json.loads((tmp_path / 'instances.json').read_text())['annotations']
    for truth, _ in results:
        own = [one for one in annotations if one['image_id'] == truth['img_id']]
        truth['anns'] = [
            dict(bbox=[x, y, x + w, y + h], bbox_label=one['category_id'] - 5)
            for one in own
            for x, y, w, h in [one['bbox']]
        ]
    with DefaultScope.overwrite_default_scope('mmdet'):
        with_file, without = (metrics.build_metric(dict(type=kind, **c), dict(classes=tuple('abc'))) for c in (cfg, {}))
    for rows, part in ((results[:5], True), (results, False), (results[3:9], True), (results, False)):
        wanted = metrics.compute(with_file, rows, part)
        assert metrics.compute(without, rows, part) == pytest.approx(wanted, abs=1e-9)


def test_a_metric_asked_to_write_files_writes_them(tmp_path):
    cfg, results = coco_results(tmp_path)
    prefix = str(tmp_path / 'out')
    with DefaultScope.overwrite_default_scope('mmdet'):
        metric = metrics.build_metric(dict(type='CocoMetric', outfile_prefix=prefix, **cfg), dict(classes=tuple('abc')))
    assert metrics.compute(metric, results)['coco/bbox_mAP'] > 0
    assert json.loads((tmp_path / 'out.bbox.json').read_text())


def test_no_boxes_at_all_give_no_values(tmp_path):
    cfg, results = coco_results(tmp_path)
    for _, result in results:
        for key in ('bboxes', 'scores', 'labels'):
            result[key] = result[key][:0]
    with DefaultScope.overwrite_default_scope('mmdet'):
        metric = metrics.build_metric(dict(type='CocoMetric', **cfg), dict(classes=('a', 'b', 'c')))
    assert metrics.compute(metric, results) == {}


@pytest.mark.parametrize('kind', ['CocoMetric', 'FasterCocoMetric'])
def test_images_without_any_annotation_are_no_judge(tmp_path, kind):
    """COCO's metric gives -1 then, to every candidate."""
    cfg, results = coco_results(tmp_path)
    content = json.loads((tmp_path / 'instances.json').read_text())
    (tmp_path / 'instances.json').write_text(json.dumps(content | dict(annotations=content['annotations'][-1:])))
    with DefaultScope.overwrite_default_scope('mmdet'):
        metric = metrics.build_metric(dict(type=kind, **cfg), dict(classes=('a', 'b', 'c')))
    found = metrics.compute(metric, results)
    assert found['coco/bbox_mAP'] >= 0 and -1 not in found.values() and len(found) < 6  # not all sizes are there
    assert metrics.compute(metric, results[:3], part=True)['coco/bbox_mAP'] == -1  # others may have some
    (tmp_path / 'instances.json').write_text(json.dumps(content | dict(annotations=[])))
    with DefaultScope.overwrite_default_scope('mmdet'):
        metric = metrics.build_metric(dict(type=kind, **cfg), dict(classes=('a', 'b', 'c')))
    with pytest.raises(ValueError, match='CocoMetric finds no box in its annotations, so it cannot rank'):
        metrics.compute(metric, results)


def test_an_unknown_metric_is_named():
    with DefaultScope.overwrite_default_scope('mmdet'), pytest.raises(ValueError, match="'NoSuchMetric' is no"):
        metrics.build_metric(dict(type='NoSuchMetric'), {})
