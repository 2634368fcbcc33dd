"""One-shot evaluation of trained supernets: with random weights every mAP is 0, which would hide bugs."""

import copy
import json
import os

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner, load_checkpoint
from torch.nn.modules.batchnorm import _BatchNorm

from detnas_mm.engine.export import Exporter
from detnas_mm.evaluators.one_shot import bn_recalibration
from detnas_mm.evaluators.seeding import seeded, stable_seed
from detnas_mm.models import build_model
from detnas_mm.models.layout import to_channels_last
from detnas_mm.models.subnet import extract_subnet, slice_state_dict
from detnas_mm.search import SearchJob
from detnas_mm.systems.detnas import DetNASSpace
from detnas_mm.testing import check_evaluator
from tests import digits
from tests.jobs import make_job
from tests.judge import PATHS, Judge, raw_predictions

pytestmark = pytest.mark.slow


def state(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_the_candidates_differ(scores):
    assert len({metrics['coco/bbox_mAP'] for metrics in scores.values()}) >= 5


@pytest.mark.parametrize('which', ['judge', 'fpn_judge'])
def test_order_and_company_do_not_matter_and_no_trace_is_left(which, request):
    judge = request.getfixturevalue(which)
    archs = [judge.path(p) for p in (PATHS[:3] if which == 'fpn_judge' else PATHS[:5])]
    with digits.scope():
        evaluations = check_evaluator(judge.evaluator, judge.job, archs, judge.model)
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
    detector.backbone = extract_subnet(judge.model.backbone, path, judge.cfg.model.backbone)
    to_channels_last(detector)  # else proposals differ in last bits, and RoIs drawn from them
    if which == 'fpn_judge':  # its loss draws anchors at random, before RoIs are drawn
        detector.rpn_head.loss_by_feat = lambda *args, **kwargs: {}
    inputs: dict[str, list] = {}
    for name, module in detector.eval().named_modules():
        if isinstance(module, _BatchNorm):
            module.train().register_forward_pre_hook(
                lambda m, args, name=name: inputs.setdefault(name, []).append(args[0].detach().double().numpy())
            )
    with torch.no_grad():
        for _, data in calibration.walk(range(3)):
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
        files = Exporter(judge.job).write(judge.path(path), tmp_path / 'net', {})
    assert torch.load(files['checkpoint'], weights_only=True).keys() == {'meta', 'state_dict'}
    cfg = Config.fromfile(files['search_val'])
    assert 'search' not in cfg and cfg.model.backbone.type == 'detnas_mm.DetNASNet'
    cfg.work_dir, cfg.load_from, cfg.log_level = str(tmp_path), str(files['checkpoint']), 'ERROR'
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


@pytest.mark.parametrize('which', ['judge', 'fpn_judge'])
def test_weights_are_those_of_the_configured_model(which, request):
    judge = request.getfixturevalue(which)
    path, before = judge.path('1|0|21|3'), state(judge.model)
    weights = judge.evaluator.weights(path)
    model = build_model(Config(judge.space.configure(judge.cfg.to_dict(), path)))
    model.load_state_dict(weights)
    assert {value.device.type for value in weights.values()} == {'cpu'}
    assert same(state(judge.model), before) and judge.evaluator.supernet.active_path is None
    with judge.evaluator.recalibrated(path) as recalibrated:
        wanted = slice_state_dict(recalibrated.state_dict(), path, judge.evaluator.supernet, 'backbone.')
        assert same(weights, wanted)


def test_without_recalibration_the_candidate_is_another(judge, retinanet_supernet, tmp_path):
    plain = Judge('retinanet', retinanet_supernet, tmp_path, search__evaluator__calibration=None)
    assert plain.metrics(['2|2|22|2'])[0] != judge.metrics(['2|2|22|2'])[0]
    assert plain.evaluator.spec()['calibration'] is None


def test_only_what_has_bn_is_run_for_recalibration(judge, fpn_judge):
    assert judge.evaluator.spec()['calibration']['part'] == 'backbone'
    assert fpn_judge.evaluator.spec()['calibration']['part'] == 'model'


def test_no_losses_where_a_one_stage_head_has_bn(retinanet_supernet, tmp_path, monkeypatch):
    """Neither they nor the assignment of anchors feed any BN."""
    head = dict(type='RetinaSepBNHead', num_ins=3, stacked_convs=1, norm_cfg=dict(type='BN'))
    judge = Judge('retinanet', retinanet_supernet, tmp_path, model__bbox_head=head)
    evaluator, path = judge.evaluator, judge.path('1|0|21|3')
    assert evaluator.spec()['calibration']['part'] == 'model'

    def recalibrated():
        with evaluator.recalibrated(path) as model:
            return slice_state_dict(state(model), path, evaluator.supernet, 'backbone.')

    with monkeypatch.context() as patch:
        patch.setattr(bn_recalibration, 'forward_mode', lambda model: 'loss')
        wanted = recalibrated()
    monkeypatch.setattr(judge.model.bbox_head, 'loss_by_feat', None)  # would fail if it was called
    found = recalibrated()
    assert same(found, wanted)
    before = slice_state_dict(state(judge.model), path, evaluator.supernet, 'backbone.')
    changed = {key for key in found if 'bbox_head' in key and not torch.equal(found[key], before[key])}
    assert changed and all('running' in key for key in changed)


def test_which_models_need_their_losses_for_recalibration(judge, fpn_judge):
    assert bn_recalibration.forward_mode(judge.model) == 'tensor'
    assert bn_recalibration.forward_mode(fpn_judge.model) == 'loss'
    assert bn_recalibration.forward_mode(torch.nn.Identity()) == 'loss'


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
    assert result.failure == 'no detections on search-val'
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
    with digits.scope(), pytest.raises(ValueError, match="but the supernet's space is"):
        judge.evaluator.setup(make_job(DetNASSpace('small')), judge.model)


@pytest.mark.parametrize('part', ['evaluator__metric', 'evaluator__calibration__dataloader__dataset'])
def test_annotations_of_other_images_or_in_another_order_are_refused(part, retinanet_supernet, digits_folder, tmp_path):
    annotations = json.loads((digits_folder / 'annotations' / 'instances_train.json').read_text())
    annotations['categories'].sort(key=lambda one: one['name'], reverse='calibration' in part)
    file = tmp_path / 'other.json'
    file.write_text(json.dumps(annotations))
    match = (
        "Label 0 is '9' in"
        if 'calibration' in part
        else 'has boxes in .*search_val.json that are not, with the same classes, in'
    )
    with pytest.raises(ValueError, match=match):
        Judge('retinanet', retinanet_supernet, tmp_path, **{f'search__{part}__ann_file': str(file)})


def test_scores_depend_neither_on_the_cache_nor_on_chunks(retinanet_supernet, tmp_path, scores):
    changes = dict(search__evaluator__cache_mb=0, search__evaluator__chunk_size=3)
    other = Judge('retinanet', retinanet_supernet, tmp_path, **changes)
    assert other.metrics(PATHS[:2] * 2) == [scores[p] for p in PATHS[:2] * 2]


def test_classification(digits_folder, retinanet_supernet, tmp_path):
    """ClsNAS: the same evaluator with mmpretrain's Accuracy."""
    checkpoint = retinanet_supernet.parents[1] / 'cls' / 'iter_120.pth'
    cfg = digits.config('detnas-digits_search_cls', tmp_path, search__evaluator__calibration__num_images=100)
    with digits.scope('mmpretrain'):
        model = MODELS.build(cfg.model)
        load_checkpoint(model, str(checkpoint), map_location='cpu')
        job = SearchJob.from_config(cfg)
        job.evaluator.setup(job, model)
        accuracies = [e.metrics['accuracy/top1'] for e in job.evaluator.evaluate([job.space.parse(p) for p in PATHS])]
    assert len(set(accuracies)) > 3
