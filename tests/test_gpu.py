"""Tests that need a GPU: python -m pytest -m gpu. Results on one are in benchmarks/measured.md.

Most of the time goes into training supernets: DETNAS_TEST_SUPERNETS names a folder where any test run leaves them and
this one finds them.
"""

import sys

import numpy as np
import pytest
import torch
from mmdet.utils import register_all_modules
from mmengine.config import Config
from scipy.stats import kendalltau

from detnas_mm.compat import cuda_usable
from detnas_mm.engine.latency import measure_latency
from detnas_mm.evaluators.detection import dense_boxes
from detnas_mm.latency import LatencyTable
from detnas_mm.latency.timing import Pace
from detnas_mm.systems.mae_det import MAEDetNet
from detnas_mm.systems.mae_det.entropy import WEIGHTS
from detnas_mm.systems.mae_det.entropy_forward import forward_entropy
from tests import digits
from tests.judge import PATHS, Judge, compared_with_exported
from tests.test_engine.test_search_jobs import CONFIG, OPTIONS, ROOT, command, rows, run
from tests.test_evaluators.test_dense_boxes import make_head, make_model, make_outputs

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not cuda_usable(), reason='no GPU that torch and mmcv can use')]
#: How far mAP may be from that of the exported net. Algorithms of cuDNN may differ between two builds of one net.
TOLERANCE = 1e-3


@pytest.fixture(scope='module')
def judges(retinanet_supernet, fpn_supernet, tmp_path_factory):
    files = dict(retinanet=retinanet_supernet, fpn=fpn_supernet)
    return {name: Judge(name, file, tmp_path_factory.mktemp(name)) for name, file in files.items()}


@pytest.mark.parametrize('detector', ['retinanet', 'fpn'])
def test_scores_are_those_of_the_exported_nets(detector, judges, tmp_path, monkeypatch):
    for found in compared_with_exported(judges[detector], PATHS[:4], tmp_path, monkeypatch):
        ours, theirs = found.buffers
        moved = max(float((ours[k].double() - theirs[k].double()).abs().max()) for k in ours)
        boxes = [np.concatenate([row['bboxes'] for _, row in side]) for side in found.rows]
        equal = boxes[0].shape == boxes[1].shape and bool((boxes[0] == boxes[1]).all())
        print(f'{detector}: buffers within {moved:.1e}, boxes equal: {equal}, mAP {found.scores}')
        assert found.scores[0] > 0
        assert found.scores[0] == pytest.approx(found.scores[1], abs=TOLERANCE)


@pytest.mark.parametrize('detector', ['retinanet', 'fpn'])
def test_neither_order_nor_chunks_matter(detector, judges, monkeypatch):
    judge, scores = judges[detector], {}
    for size, paths in ((0, PATHS[:5]), (1, PATHS[:5]), (3, PATHS[4::-1])):
        monkeypatch.setattr(judge.evaluator, 'chunk_size', size)
        scores[size] = [m['coco/bbox_mAP'] for _, m in sorted(zip(paths, judge.metrics(paths), strict=True))]
    print(f'{detector}: {scores}')
    assert len(set(scores[0])) == 5
    for found in scores.values():
        np.testing.assert_allclose(found, scores[0], atol=TOLERANCE)


@pytest.mark.parametrize('detector', ['retinanet', 'fpn'])
@pytest.mark.parametrize('precision', ['fp16', 'bf16'])
@pytest.mark.parametrize('channels_last', [False, True])
def test_half_precision_and_layout(detector, precision, channels_last, judges, monkeypatch):
    evaluator = judges[detector].evaluator
    wanted = [m['coco/bbox_mAP'] for m in judges[detector].metrics(PATHS)]
    monkeypatch.setattr(evaluator, 'precision', precision)
    monkeypatch.setattr(evaluator, 'channels_last', channels_last)
    found = [m['coco/bbox_mAP'] for m in judges[detector].metrics(PATHS)]
    print(f'{detector} {precision} {channels_last}: tau {kendalltau(wanted, found).statistic:.2f} {wanted} {found}')
    np.testing.assert_allclose(found, wanted, atol=0.03)
    assert {p.dtype for p in judges[detector].model.parameters()} == {torch.float32}


def test_boxes_of_a_batch_are_mmdets():
    register_all_modules(False)
    head = make_head().cuda()
    scores, deltas, metas = make_outputs(head)
    scores, deltas = [x.cuda() for x in scores], [x.cuda() for x in deltas]
    wanted = head.predict_by_feat(scores, deltas, batch_img_metas=metas, rescale=True)
    with dense_boxes.together(make_model(head)):
        found = head.predict_by_feat(scores, deltas, batch_img_metas=metas, rescale=True)
    for a, b in zip(wanted, found, strict=True):
        assert len(a) > 5 and torch.equal(a.labels, b.labels) and a.bboxes.is_cuda
        torch.testing.assert_close(a.bboxes, b.bboxes)
        torch.testing.assert_close(a.scores, b.scores)


@pytest.mark.parametrize(
    ('name', 'changes'),
    [
        ('detnas-digits_supernet_retinanet', dict(model__backbone__with_cp=True)),
        ('detnas-digits_supernet_fpn', {}),
        ('maedet-digits_s_retinanet', dict(model__backbone__with_cp=True)),
    ],
)
def test_training_in_mixed_precision(name, changes, digits_folder, tmp_path):
    changes = changes | dict(optim_wrapper__type='AmpOptimWrapper', model__backbone__init_cfg=None)
    runner = digits.runner(name, tmp_path, train_cfg__max_iters=20, **changes)
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    runner.train()
    state = runner.model.state_dict()
    assert all(value.is_cuda and bool(torch.isfinite(value).all()) for value in state.values())
    assert any(not torch.equal(before[key].to(value), value) for key, value in state.items())


def test_latency_of_choices(retinanet_supernet, tmp_path):
    cfg = digits.config('detnas-digits_search-latency_retinanet', tmp_path)
    file = tmp_path / 'latency.json'
    found = measure_latency(cfg, str(retinanet_supernet), file, 'detector', (96, 96), 'cuda', Pace(3, 0.01, 0.0), 6)
    assert found['device'] == dict(kind='cuda', name=torch.cuda.get_device_name())
    check = found['check']
    print(found['factor'], {key: value for key, value in check.items() if key != 'rows'})
    assert 0.5 < found['factor'] < 2
    table = LatencyTable(cfg.search.space, file, 'detector', (96, 96))
    assert 0 < table.total(table.space.parse(PATHS[0])) < 1000


def test_latency_of_structures(tmp_path):
    cfg = Config(dict(search=dict(space=dict(type='MAEDetSpace'), objectives=[dict(name='entropy')])))
    file = tmp_path / 'a.json'
    found = measure_latency(cfg, None, file, 'backbone', 224, 'cuda', Pace(2, 0.0, 0.0), nets=6, grid=3)
    assert found['device']['kind'] == 'cuda'
    print(found['factor'], {key: value for key, value in found['check'].items() if key != 'rows'})


def test_entropy_of_noise_through_a_net():
    net = MAEDetNet('maedet-s')
    on_cpu, on_gpu = (forward_entropy(net.to(device), WEIGHTS[1:], 64, repeats=2) for device in ('cpu', 'cuda'))
    assert on_gpu == pytest.approx(on_cpu, rel=5e-3) and on_gpu != on_cpu


def test_a_search_under_torchrun(retinanet_supernet, tmp_path):
    """One rank, which talks by NCCL: the rows of a search without torchrun."""
    alone, ranks = tmp_path / 'alone', tmp_path / 'ranks'
    start = ['bash', str(ROOT / 'tools' / 'dist_search.sh'), str(CONFIG), str(retinanet_supernet), '1']
    by_ranks = [*start, '--work-dir', str(ranks), '--cfg-options', *OPTIONS]
    for arguments in (command(retinanet_supernet, alone), by_ranks):
        done = run(arguments, env=dict(PYTHON=sys.executable))
        assert done.returncode == 0, done.stderr[-3000:]
    first, second = rows(alone), rows(ranks)
    assert [row['arch'] for row in first] == [row['arch'] for row in second]
    scores = [[row['metrics']['coco/bbox_mAP'] for row in one] for one in (first, second)]
    np.testing.assert_allclose(*scores, atol=TOLERANCE)
