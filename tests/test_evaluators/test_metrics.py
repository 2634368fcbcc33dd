import contextlib
import gc
import json
import os

import numpy as np
import pytest
from mmengine.evaluator import BaseMetric
from mmengine.registry import DefaultScope

from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.detection import metrics
from detnas_mm.evaluators.detection.metric_workers import MetricWorkers


def test_the_digest_follows_contents_and_settings_and_not_the_folder(tmp_path):
    files = []
    for name, text in (('a', 'boxes'), ('b', 'boxes'), ('c', 'others')):
        (tmp_path / name).mkdir()
        files.append(tmp_path / name / 'instances.json')
        files[-1].write_text(text)
    first, same, other = (metrics.metric_digest(dict(type='CocoMetric', ann_file=str(f))) for f in files)
    assert first == same != other
    assert metrics.metric_digest(dict(type='CocoMetric', ann_file=str(files[0]), metric=['bbox'])) != first


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


@pytest.mark.parametrize('enabled', [True, False])
def test_the_collector_rests_meanwhile_and_is_left_as_it_was(enabled):
    class Metric(BaseMetric):
        def process(self, data_batch, data_samples):
            pass

        def compute_metrics(self, results):
            return dict(collects=float(gc.isenabled()))

    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        assert metrics.compute(Metric(), []) == dict(collects=0.0)
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()


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


@pytest.mark.parametrize('kind', ['CocoMetric', 'FasterCocoMetric'])
@pytest.mark.parametrize('settings', [{}, dict(metric=['bbox', 'proposal'], classwise=True)], ids=['plain', 'all'])
def test_boxes_handed_over_in_memory_give_what_the_json_file_gives(tmp_path, monkeypatch, kind, settings):
    cfg, results = coco_results(tmp_path)
    with DefaultScope.overwrite_default_scope('mmdet'):
        metric = metrics.build_metric(dict(type=kind, **cfg, **settings), dict(classes=('a', 'b', 'c')))
    found = metrics.compute(metric, results)
    assert 0 < found['coco/bbox_mAP'] < 1
    assert 'results2json' not in vars(metric)
    monkeypatch.setattr(metrics, '_without_json', lambda metric: contextlib.nullcontext())
    files = []
    original = type(metric).results2json
    monkeypatch.setattr(type(metric), 'results2json', lambda *a: (files.append(a), original(*a))[1])
    assert metrics.compute(metric, results) == found
    assert files
    files.clear()
    monkeypatch.undo()
    monkeypatch.setattr(type(metric), 'results2json', lambda *a: (files.append(a), original(*a))[1])
    assert metrics.compute(metric, results) == found
    assert not files


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
    with pytest.raises(ValueError, match='CocoMetric finds no box in its annotations, so nothing tells'):
        metrics.compute(metric, results)


class Picky(BaseMetric):
    """Adds up numbers; takes no negative one, and ends the process at zero."""

    default_prefix = 'picky'

    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        print('something between')
        if min(results) == -5:
            return dict(sum=results[7])
        if min(results) < 0:
            raise ValueError(f'{min(results)} is negative')
        if min(results) == 0:
            os._exit(3)
        return dict(sum=sum(results), process=os.getpid())


def test_workers_compute_elsewhere_and_bring_errors_back():
    workers = MetricWorkers(Picky(), 2)
    first, second = (workers.submit([i, 2], part=False).result()[0] for i in (1, 5))
    assert (first['picky/sum'], second['picky/sum']) == (3, 7)
    assert os.getpid() not in (first['picky/process'], second['picky/process'])
    with pytest.raises(ValueError, match='-1 is negative'):
        workers.submit([-1], part=False).result()
    assert workers.submit([4], part=False).result()[0]['picky/sum'] == 4
    with pytest.raises(DetNASError, match='exit status 3. Lower evaluator.metric_workers'):
        workers.submit([0], part=False).result()


def test_what_goes_wrong_in_a_worker_tells_where(capfd):
    """Where it is raised again the lines that led to it are not known."""
    with pytest.raises(IndexError):
        MetricWorkers(Picky(), 1).submit([-5], part=False).result()
    assert 'return dict(sum=results[7])' in capfd.readouterr().err


def test_no_worker_computes_here():
    values, seconds = MetricWorkers(Picky()).submit([1, 2], part=False).result()
    assert values == {'picky/sum': 3, 'picky/process': os.getpid()} and seconds >= 0
    with pytest.raises(ValueError, match='got -1'):
        MetricWorkers(Picky(), -1)


def test_an_unknown_metric_is_named():
    with DefaultScope.overwrite_default_scope('mmdet'), pytest.raises(ValueError, match="no metric 'NoSuchMetric'"):
        metrics.build_metric(dict(type='NoSuchMetric'), {})
