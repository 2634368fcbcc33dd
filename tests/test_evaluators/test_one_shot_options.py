"""Effects of racing and of other numerics on scores."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import METRICS

from detnas_mm.evaluators.one_shot.racing import Racing, judged_on, partial
from detnas_mm.search import Record
from detnas_mm.testing import check_evaluator
from tests import digits
from tests.judge import PATHS, Judge

pytestmark = pytest.mark.slow


@pytest.mark.parametrize('options', [dict(precision='bf16'), dict(channels_last=False)], ids=['bf16', 'contiguous'])
def test_other_numerics_give_almost_the_same_scores(judge, retinanet_supernet, tmp_path, scores, options):
    changes = {f'search__evaluator__{key}': value for key, value in options.items()}
    other = Judge('retinanet', retinanet_supernet, tmp_path, **changes)
    assert other.evaluator.spec().get('numerics') != judge.evaluator.spec()['numerics']
    before = {name: p.stride() for name, p in other.model.named_parameters()}
    archs = [other.path(p) for p in PATHS[:4]]
    with digits.scope():
        evaluations = check_evaluator(other.evaluator, other.job, archs, other.model)
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


def racing_for(judge, **settings):
    racing = Racing(**settings)
    racing.setup(judge.job.objectives)
    return racing


def as_record(index, text, evaluation):
    return Record(
        index=index, generation=0, id=text, arch=text, origin='random', parents=(), status=evaluation.status,
        reason=evaluation.dropped, metrics=evaluation.metrics, costs={}, details=evaluation.details,
    )  # fmt: skip


@pytest.mark.parametrize('chunk_size', [0, 3])
def test_racing_drops_some_and_leaves_the_scores_of_the_others_as_they_are(judge, scores, chunk_size, monkeypatch):
    evaluator, archs = judge.evaluator, [judge.path(p) for p in PATHS]
    racing = racing_for(judge, shares=[0.34, 0.67], confidence=0.8, keep=3, at_least=5)
    monkeypatch.setattr(evaluator, 'racing', racing)
    monkeypatch.setattr(evaluator, 'chunk_size', chunk_size)
    full = list(evaluator.evaluate(archs))
    assert [e.metrics for e in full] == [scores[p] for p in PATHS]
    # Batches of 20: after 0.34 and 0.67 of 3, rounded up, are 2 and then all of them, which is no share.
    assert {(e.status, judged_on(e), tuple(partial(e))) for e in full} == {('ok', 60, ('40',))}
    evaluator.observe([as_record(i, p, e) for i, (p, e) in enumerate(zip(PATHS, full, strict=True))])
    raced = list(evaluator.evaluate(archs))
    dropped = [(f, r) for f, r in zip(full, raced, strict=True) if r.dropped]
    assert 0 < len(dropped) < len(PATHS)
    assert [e.dropped for e in raced] == [racing.verdict(40, partial(e)['40']) for e in full]
    for before, after in zip(full, raced, strict=True):
        if after.dropped is None:
            assert (after.metrics, after.details) == (before.metrics, before.details) and judged_on(after) == 60
        else:
            assert after.status == 'dropped' and after.metrics == {} and judged_on(after) < 60
            assert partial(after) == {k: v for k, v in partial(before).items() if int(k) <= judged_on(after)}
            assert f'on {judged_on(after)} images' in after.dropped


def test_racing_on_a_part_of_the_calibration_recalibrates_survivors_in_full(judge, scores, monkeypatch):
    evaluator, archs = judge.evaluator, [judge.path(p) for p in PATHS]
    monkeypatch.setattr(evaluator, 'chunk_size', 1)
    settings = dict(shares=[0.34], confidence=0.8, keep=3, at_least=5)
    monkeypatch.setattr(evaluator, 'racing', racing_for(judge, **settings))
    usual = list(evaluator.evaluate(archs))
    monkeypatch.setattr(evaluator, 'racing', racing_for(judge, **settings, calibration=0.1))
    full = list(evaluator.evaluate(archs))
    assert [e.metrics for e in full] == [e.metrics for e in usual] == [scores[p] for p in PATHS]
    assert [partial(e) for e in full] != [partial(e) for e in usual]
    assert {(e.status, judged_on(e), tuple(partial(e))) for e in full} == {('ok', 60, ('40',))}
    # Scores on the share predict these exactly, so that the same candidates are dropped on every processor.
    known = [replace(e, metrics=partial(e)['40']) for e in full]
    evaluator.observe([as_record(i, p, e) for i, (p, e) in enumerate(zip(PATHS, known, strict=True))])
    walked, walk = [], evaluator.calibration.walk

    def noted(batches, parts):
        walked.extend(batches)
        return walk(batches, parts)

    monkeypatch.setattr(evaluator.calibration, 'walk', noted)
    raced = list(evaluator.evaluate(archs))
    dropped = sum(e.dropped is not None for e in raced)
    assert 0 < dropped < len(PATHS)
    assert (
        len(walked) == dropped + (len(PATHS) - dropped) * len(evaluator.calibration) and len(evaluator.calibration) > 1
    )
    assert all(r.metrics == f.metrics for r, f in zip(raced, full, strict=True) if r.dropped is None)


def test_scores_on_a_share_are_those_of_its_images_alone(judge, tmp_path, monkeypatch):
    """By mmdet's own metric, on an annotation file that holds no other images."""
    evaluator, text = judge.evaluator, PATHS[3]
    racing = racing_for(judge, shares=[0.5])
    monkeypatch.setattr(evaluator, 'racing', racing)
    (evaluation,) = evaluator.evaluate([judge.path(text)])
    stage = racing.stages(len(evaluator.batches))[0].evaluation
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
        for _, data in evaluator.batches.walk(stage):
            metric.process(data, [sample.to_dict() for sample in model.test_step(data)])
        wanted = metric.compute_metrics(metric.results)
    (images, found), *more = partial(evaluation).items()
    assert not more and int(images) == len(names) < 60
    assert found['coco/bbox_mAP'] > 0
    for key, value in wanted.items():
        assert found[f'coco/{key}'] == pytest.approx(value, abs=5.1e-4)
