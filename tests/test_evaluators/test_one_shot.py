"""On trained supernets: on random weights every mAP is 0 and any bug passes."""

import copy
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import METRICS, MODELS
from mmengine.runner import Runner, load_checkpoint
from torch.nn.modules.batchnorm import _BatchNorm

from detnas_mm.engine import SearchPlan
from detnas_mm.evaluators.metric_workers import MetricWorkers
from detnas_mm.evaluators.racing import Racing
from detnas_mm.evaluators.seeding import seeded, stable_seed
from detnas_mm.export import export_subnet
from detnas_mm.models.layout import to_channels_last
from detnas_mm.models.subnet import extract_subnet, slice_state_dict
from detnas_mm.search import Objective, Record
from detnas_mm.testing import check_evaluator
from tests import digits

pytestmark = pytest.mark.slow
PATHS = ['0|0|00|0', '2|2|22|2', '3|3|33|3', '1|0|21|3', '2|3|01|0', '0|2|13|1', '3|1|20|2', '1|1|11|1']

MAP = Objective('coco/bbox_mAP')


class Judge:
    """An evaluator with its model, set up as a search does it."""

    def __init__(self, detector, checkpoint, tmp, **changes):
        part = 'model__test_cfg__rcnn__score_thr' if detector == 'fpn' else 'model__test_cfg__score_thr'
        changes = {part: 0.001, 'search__evaluator__calibration__num_images': 60, **changes}
        self.cfg = digits.config(f'detnas-digits_search_{detector}', tmp / 'search', **changes)
        with digits.scope():
            self.model = MODELS.build(copy.deepcopy(self.cfg.model))
            load_checkpoint(self.model, str(checkpoint), map_location='cpu')
            plan = SearchPlan(self.cfg.search)
            self.space, self.evaluator = plan.space, plan.evaluator
            self.evaluator.setup(self.space, self.model)

    def path(self, text):
        return self.space.parse(text)

    def metrics(self, texts):
        return [e.metrics for e in self.evaluator.evaluate([self.path(t) for t in texts])]

    def predictions(self, text):
        """Boxes, scores and labels of all images of search-val, the path recalibrated."""
        with self.evaluator.recalibrated(self.path(text)):
            return raw_predictions(self.model, self.evaluator.batches)


def raw_predictions(model, batches):
    with torch.no_grad():
        samples = [sample for _, data in batches for sample in model.test_step(data)]
    return [torch.cat([p.bboxes, p.scores[:, None], p.labels[:, None]], 1) for p in (s.pred_instances for s in samples)]


def state(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture(scope='module')
def judge(retinanet_supernet, tmp_path_factory):
    return Judge('retinanet', retinanet_supernet, tmp_path_factory.mktemp('judge'))


@pytest.fixture(scope='module')
def contiguous_judge(retinanet_supernet, tmp_path_factory):
    folder = tmp_path_factory.mktemp('judge')
    return Judge('retinanet', retinanet_supernet, folder, search__evaluator__channels_last=False)


@pytest.fixture(scope='module')
def fpn_judge(fpn_supernet, tmp_path_factory):
    return Judge('fpn', fpn_supernet, tmp_path_factory.mktemp('judge'))


@pytest.fixture(scope='module')
def scores(judge):
    return dict(zip(PATHS, judge.metrics(PATHS)))


def test_the_candidates_differ(scores):
    assert len({metrics['coco/bbox_mAP'] for metrics in scores.values()}) >= 5


@pytest.mark.parametrize('which', ['judge', 'fpn_judge'])
def test_order_and_company_do_not_matter_and_no_trace_is_left(which, request):
    judge = request.getfixturevalue(which)
    archs = [judge.path(p) for p in (PATHS[:3] if which == 'fpn_judge' else PATHS[:5])]
    with digits.scope():
        evaluations = check_evaluator(judge.evaluator, judge.space, archs, judge.model)
    assert len({evaluation.metrics['coco/bbox_mAP'] for evaluation in evaluations}) >= 3
    assert judge.evaluator.supernet.active_path is None


@pytest.mark.parametrize('which', ['judge', 'fpn_judge'])
def test_recalibrated_statistics_against_an_independent_computation(which, request):
    """In float64 with numpy, from what flows into the BN layers of the whole detector with the fixed net in it."""
    judge = request.getfixturevalue(which)
    path, calibration = judge.path('1|0|21|3'), judge.evaluator.calibration
    supernet = judge.evaluator.supernet
    before = judge.model.state_dict()
    detector = copy.deepcopy(judge.model)
    detector.backbone = extract_subnet(judge.model.backbone, path)
    to_channels_last(detector)  # else proposals differ in last bits, and RoIs drawn from them
    inputs: dict[str, list] = {}
    for name, module in detector.eval().named_modules():
        if isinstance(module, _BatchNorm):
            module.train().register_forward_pre_hook(
                lambda m, args, name=name: inputs.setdefault(name, []).append(args[0].detach().double().numpy())
            )
    with torch.no_grad():
        for _, data in calibration:
            data = detector.data_preprocessor(data, False)
            names = [os.path.basename(sample.img_path) for sample in data['data_samples']]
            with seeded(stable_seed([0, *names])):  # the same training RoIs
                detector(**data, mode='loss')
    with judge.evaluator.recalibrated(path) as model:
        got = slice_state_dict(model.state_dict(), path, supernet, 'backbone.')
    parts = {name.split('.')[0] for name in inputs}
    assert parts == ({'backbone'} if which == 'judge' else {'backbone', 'neck', 'roi_head'})
    assert len(calibration) == 3
    for name, batches in inputs.items():
        assert len(batches) % 3 == 0
        axes = tuple(a for a in range(batches[0].ndim) if a != 1)
        means, variances = [x.mean(axes) for x in batches], [x.var(axes, ddof=1) for x in batches]
        np.testing.assert_allclose(got[f'{name}.running_mean'].double(), np.mean(means, 0), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(got[f'{name}.running_var'].double(), np.mean(variances, 0), rtol=2e-3, atol=1e-5)
    changed = [
        k for k, v in slice_state_dict(before, path, supernet, 'backbone.').items() if not torch.equal(v, got[k])
    ]
    assert sum(k.endswith('running_mean') for k in changed) == len(inputs)


@pytest.mark.parametrize(
    'which, path',
    [('judge', '2|2|22|2'), ('judge', '1|0|21|3'), ('contiguous_judge', '1|0|21|3'), ('fpn_judge', '1|0|21|3')],
)
def test_the_exported_net_is_the_candidate(which, path, request, tmp_path):
    """By mmengine's own Runner.test on search-val: predictions equal to the bit, mAP to its three decimals."""
    judge = request.getfixturevalue(which)
    (metrics,) = judge.metrics([path])
    predictions = judge.predictions(path)
    with digits.scope():
        config, checkpoint = export_subnet(judge.cfg, judge.evaluator, judge.path(path), tmp_path / 'net', {})
    assert torch.load(checkpoint, weights_only=True).keys() == {'meta', 'state_dict'}
    cfg = Config.fromfile(config)
    assert 'search' not in cfg and cfg.model.backbone.type == 'detnas_mm.DetNASNet'
    cfg.work_dir, cfg.load_from, cfg.log_level = str(tmp_path), str(checkpoint), 'ERROR'
    cfg.experiment_name = f'exported-{which}-{path}'
    runner = Runner.from_cfg(cfg)
    tested = runner.test()
    assert tested['coco/bbox_mAP'] == pytest.approx(metrics['coco/bbox_mAP'], abs=5.1e-4)
    assert metrics['coco/bbox_mAP'] != tested['coco/bbox_mAP']  # the fitness is not rounded
    with digits.scope():
        if judge.evaluator.channels_last:
            to_channels_last(runner.model)
        exported = raw_predictions(runner.model.eval(), judge.evaluator.batches)
    assert all(torch.equal(a, b) for a, b in zip(exported, predictions, strict=True))
    assert sum(len(p) for p in predictions) > 50


def test_without_recalibration_the_candidate_is_another(judge, retinanet_supernet, tmp_path):
    plain = Judge('retinanet', retinanet_supernet, tmp_path, search__evaluator__calibration=None)
    assert plain.metrics(['2|2|22|2'])[0] != judge.metrics(['2|2|22|2'])[0]
    assert plain.evaluator.spec()['calibration'] is None


def test_only_what_has_bn_is_run_for_recalibration(judge, fpn_judge):
    assert judge.evaluator.spec()['calibration']['part'] == 'backbone'
    assert fpn_judge.evaluator.spec()['calibration']['part'] == 'model'


def test_values_that_are_not_finite_fail_the_candidate_alone(judge):
    weight = judge.model.backbone.blocks[2][3].main[1].conv.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[0] = float('nan')
    try:
        good, bad, other = judge.evaluator.evaluate([judge.path(p) for p in ('0|0|00|0', '0|0|30|0', '2|2|22|2')])
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert good.failure is None and other.failure is None
    assert 'not finite' in bad.failure and bad.metrics == {}


def test_no_detections_and_out_of_memory_are_failures(judge, monkeypatch):
    monkeypatch.setitem(judge.model.bbox_head.test_cfg, 'score_thr', 1.1)
    (result,) = judge.evaluator.evaluate([judge.path('0|0|00|0')])
    assert result.failure == 'no detections'
    monkeypatch.undo()

    def too_much(*args):
        raise torch.OutOfMemoryError('tried to allocate 2 TiB')

    with monkeypatch.context() as patch:
        patch.setattr(judge.model.backbone.blocks[0][1], 'forward', too_much)
        bad, good = judge.evaluator.evaluate([judge.path('1|0|00|0'), judge.path('0|0|00|0')])
    assert bad.failure == 'out of memory: tried to allocate 2 TiB'
    assert good.failure is None


def test_an_error_of_the_program_is_no_failure_of_the_candidate(judge, monkeypatch):
    def wrong(*args):
        raise TypeError('a bug')

    monkeypatch.setattr(judge.model.backbone.blocks[0][0], 'forward', wrong)
    with pytest.raises(TypeError, match='a bug'):
        list(judge.evaluator.evaluate([judge.path('0|0|00|0')]))


def test_the_space_of_the_search_must_be_the_supernets(judge):
    from detnas_mm.spaces import DetNASSpace

    with digits.scope(), pytest.raises(ValueError, match="not the supernet's"):
        judge.evaluator.setup(DetNASSpace('small'), judge.model)


def test_scores_depend_neither_on_the_cache_nor_on_chunks(retinanet_supernet, tmp_path, scores):
    changes = dict(search__evaluator__cache_mb=0, search__evaluator__chunk_size=3)
    other = Judge('retinanet', retinanet_supernet, tmp_path, **changes)
    assert other.metrics(PATHS[:2] * 2) == [scores[p] for p in PATHS[:2] * 2]


def test_metrics_computed_in_other_processes_are_the_same(judge, scores, monkeypatch):
    evaluator = judge.evaluator
    monkeypatch.setattr(evaluator, 'chunk_size', 3)
    monkeypatch.setattr(evaluator, 'metric_workers', 2)
    monkeypatch.setattr(evaluator, '_metrics', MetricWorkers(evaluator.metric, 2))
    texts = PATHS[:4] + PATHS[:1]
    with monkeypatch.context() as patch:
        patch.setattr('detnas_mm.evaluators.metric_workers.compute', None)  # not in this process
        evaluations = list(evaluator.evaluate([judge.path(p) for p in texts]))
    assert [e.metrics for e in evaluations] == [scores[p] for p in texts]
    assert all(e.time.keys() == {'recalibration', 'prediction', 'metric'} for e in evaluations)


@pytest.mark.parametrize('options', [dict(precision='bf16'), dict(channels_last=False)], ids=['bf16', 'contiguous'])
def test_other_numerics_give_almost_the_same_scores(judge, retinanet_supernet, tmp_path, scores, options):
    changes = {f'search__evaluator__{key}': value for key, value in options.items()}
    other = Judge('retinanet', retinanet_supernet, tmp_path, **changes)
    assert other.evaluator.spec().get('numerics') != judge.evaluator.spec()['numerics']
    before = {name: p.stride() for name, p in other.model.named_parameters()}
    archs = [other.path(p) for p in PATHS[:4]]
    with digits.scope():
        evaluations = check_evaluator(other.evaluator, other.space, archs, other.model)
    found = [e.metrics['coco/bbox_mAP'] for e in evaluations]
    wanted = [scores[p]['coco/bbox_mAP'] for p in PATHS[:4]]
    first, second = (one.predictions(PATHS[0]) for one in (judge, other))
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(first, second, strict=True))
    np.testing.assert_allclose(found, wanted, atol=0.02)
    assert {name: p.stride() for name, p in other.model.named_parameters()} == before
    assert {p.dtype for p in other.model.parameters()} == {torch.float32}


def test_the_layout_changes_next_to_nothing_where_rois_are_cut_out(fpn_judge, monkeypatch):
    evaluator, archs = fpn_judge.evaluator, [fpn_judge.path(p) for p in PATHS[:2]]
    assert evaluator.channels_last
    found = [e.metrics['coco/bbox_mAP'] for e in evaluator.evaluate(archs)]
    monkeypatch.setattr(evaluator, 'channels_last', False)
    wanted = [e.metrics['coco/bbox_mAP'] for e in evaluator.evaluate(archs)]
    np.testing.assert_allclose(found, wanted, atol=0.01)
    assert min(wanted) > 0


def test_half_precision_where_heads_are_mmdets(fpn_judge, monkeypatch):
    """Proposals, RoI heads and their boxes stay in float32."""
    evaluator, path = fpn_judge.evaluator, fpn_judge.path(PATHS[3])
    (plain,) = evaluator.evaluate([path])
    monkeypatch.setattr(evaluator, 'precision', 'bf16')
    (half,) = evaluator.evaluate([path])
    assert half.metrics != plain.metrics
    assert half.metrics['coco/bbox_mAP'] == pytest.approx(plain.metrics['coco/bbox_mAP'], abs=0.02)
    assert fpn_judge.predictions(PATHS[3])[0].dtype == torch.float32


def test_classification(digits_folder, retinanet_supernet, tmp_path):
    """ClsNAS: the same evaluator with mmpretrain's Accuracy."""
    checkpoint = retinanet_supernet.parents[1] / 'cls' / 'iter_120.pth'
    cfg = digits.config('detnas-digits_search_cls', tmp_path, search__evaluator__calibration__num_images=100)
    with digits.scope('mmpretrain'):
        model = MODELS.build(cfg.model)
        load_checkpoint(model, str(checkpoint), map_location='cpu')
        plan = SearchPlan(cfg.search)
        plan.evaluator.setup(plan.space, model)
        accuracies = [e.metrics['accuracy/top1'] for e in plan.evaluator.evaluate([plan.space.parse(p) for p in PATHS])]
    assert len(set(accuracies)) > 3


def as_record(index, text, evaluation):
    return Record(
        index=index, generation=0, id=text, arch=text, origin='random', parents=(), status=evaluation.status,
        reason=evaluation.dropped, metrics=evaluation.metrics, costs={}, images=evaluation.images,
        partial=evaluation.partial,
    )  # fmt: skip


@pytest.mark.parametrize('chunk_size', [0, 3])
def test_racing_drops_some_and_leaves_the_scores_of_the_others_as_they_are(judge, scores, chunk_size, monkeypatch):
    evaluator, archs = judge.evaluator, [judge.path(p) for p in PATHS]
    racing = Racing(shares=[0.34, 0.67], confidence=0.8, keep=3, at_least=5)
    monkeypatch.setattr(evaluator, 'racing', racing)
    monkeypatch.setattr(evaluator, 'chunk_size', chunk_size)
    full = list(evaluator.evaluate(archs))
    assert [e.metrics for e in full] == [scores[p] for p in PATHS]
    # Batches of 20: after 0.34 and 0.67 of 3, rounded up, are 2 and then all of them, which is no share.
    assert {(e.status, e.images, tuple(e.partial)) for e in full} == {('ok', 60, ('40',))}
    evaluator.observe([as_record(i, p, e) for i, (p, e) in enumerate(zip(PATHS, full, strict=True))], [MAP])
    raced = list(evaluator.evaluate(archs))
    dropped = [(f, r) for f, r in zip(full, raced, strict=True) if r.dropped]
    assert 0 < len(dropped) < len(PATHS)
    assert [e.dropped for e in raced] == [racing.verdict(40, e.partial['40']) for e in full]
    for before, after in zip(full, raced, strict=True):
        if after.dropped is None:
            assert (after.metrics, after.partial, after.images) == (before.metrics, before.partial, 60)
        else:
            assert after.status == 'dropped' and after.metrics == {} and after.images < 60
            assert after.partial == {k: v for k, v in before.partial.items() if int(k) <= after.images}
            assert f'on {after.images} images' in after.dropped


def test_scores_on_a_share_are_those_of_its_images_alone(judge, tmp_path, monkeypatch):
    """By mmdet's own metric, on an annotation file that holds no other images."""
    evaluator, text = judge.evaluator, PATHS[3]
    racing = Racing(shares=[0.5])
    monkeypatch.setattr(evaluator, 'racing', racing)
    (evaluation,) = evaluator.evaluate([judge.path(text)])
    stage = racing.stages(len(evaluator.batches))[0]
    metric_cfg = dict(judge.cfg.search.evaluator.metric)
    annotations = json.loads(Path(metric_cfg['ann_file']).read_text())
    names = {annotations['images'][i]['id'] for n in stage for i in evaluator.batches._batches[n]}
    annotations['images'] = [image for image in annotations['images'] if image['id'] in names]
    annotations['annotations'] = [a for a in annotations['annotations'] if a['image_id'] in names]
    metric_cfg['ann_file'] = str(tmp_path / 'part.json')
    (tmp_path / 'part.json').write_text(json.dumps(annotations))
    with digits.scope(), evaluator.recalibrated(judge.path(text)) as model, torch.no_grad():
        metric = METRICS.build(metric_cfg)
        metric.dataset_meta = evaluator.batches.metainfo
        for number, data in evaluator.batches:
            if number in stage:
                metric.process(data, [sample.to_dict() for sample in model.test_step(data)])
        wanted = metric.compute_metrics(metric.results)
    (images, found), *more = evaluation.partial.items()
    assert not more and int(images) == len(names) < 60
    assert found['coco/bbox_mAP'] > 0
    for key, value in wanted.items():
        assert found[f'coco/{key}'] == pytest.approx(value, abs=5.1e-4)
