"""A generation evaluated together against its nets exported, one by one, and run through mmengine's Runner.test."""

import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from detnas_mm.export import export_subnet
from detnas_mm.models.subnet import slice_state_dict
from tests import digits
from tests.judge import PATHS

pytestmark = pytest.mark.slow


def run_exported(config, checkpoint, folder, monkeypatch):
    """What mmengine's test of an exported net hands to the metric, and the mAP before mmdet rounds it."""
    cfg = Config.fromfile(config)
    cfg.work_dir, cfg.load_from, cfg.log_level = str(folder), str(checkpoint), 'ERROR'
    cfg.experiment_name = f'together-{checkpoint.stem}-{id(cfg)}'
    runner = Runner.from_cfg(cfg)
    (metric,) = runner.test_loop.evaluator.metrics
    rows, stats = [], []
    compute, module = metric.compute_metrics, sys.modules[type(metric).__module__]
    monkeypatch.setattr(metric, 'compute_metrics', lambda results: rows.extend(results) or compute(results))
    with monkeypatch.context() as patch:
        for name in ('COCOeval_faster', 'COCOeval', 'COCOevalMP'):
            original = getattr(module, name, None)
            if original is not None:

                class Watched(original):
                    def summarize(self, *args):
                        result = super().summarize(*args)
                        stats.append(float(self.stats[0]))
                        return result

                patch.setattr(module, name, Watched)
        runner.test()
    (score,) = stats
    return rows, score


@pytest.mark.parametrize(('which', 'paths'), [('judge', PATHS[:5]), ('fpn_judge', PATHS[1:4])])
def test_buffers_predictions_and_scores_are_equal_to_the_bit(which, paths, request, tmp_path, monkeypatch):
    judge = request.getfixturevalue(which)
    evaluator, archs, kept = judge.evaluator, [judge.path(path) for path in paths], []
    predict = evaluator._predict
    monkeypatch.setattr(evaluator, 'chunk_size', 0)
    monkeypatch.setattr(
        evaluator, '_predict', lambda tree, stage: kept.append((tree, predict(tree, stage))) or kept[-1][1]
    )
    evaluations = list(evaluator.evaluate(archs))
    ((tree, predictions),) = kept
    scores = [evaluation.metrics['coco/bbox_mAP'] for evaluation in evaluations]
    assert len(set(scores)) == len(archs)
    for candidate, (arch, score) in enumerate(zip(archs, scores, strict=True)):
        with digits.scope():
            config, checkpoint = export_subnet(judge.cfg, evaluator, arch, tmp_path / arch.id, {})
        state = dict(judge.model.state_dict())
        for name, (mean, var) in tree.statistics(candidate).items():
            state[f'{name}.running_mean'], state[f'{name}.running_var'] = mean, var
        ours = slice_state_dict(state, arch, evaluator.supernet, 'backbone.')
        theirs = torch.load(checkpoint, weights_only=True)['state_dict']
        assert ours.keys() == theirs.keys()
        assert [k for k in ours if 'num_batches' not in k and not torch.equal(ours[k], theirs[k])] == []
        rows, exported_score = run_exported(config, checkpoint, tmp_path, monkeypatch)
        batches = predictions[tree.ends[candidate].number]
        own = [row for _, batch in sorted(batches.items()) for row in batch]
        assert sum(len(prediction['scores']) for _, prediction in own) > 50
        for (_, first), (_, second) in zip(own, rows, strict=True):
            assert first['img_id'] == second['img_id']
            assert all(np.array_equal(first[key], second[key]) for key in ('bboxes', 'scores', 'labels'))
        assert score == exported_score
