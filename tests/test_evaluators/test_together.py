"""A generation evaluated together against its nets exported, one by one, and run through mmengine's Runner.test."""

import numpy as np
import pytest
import torch

from tests.judge import PATHS, compared_with_exported

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(('which', 'paths'), [('judge', PATHS[:5]), ('fpn_judge', PATHS[1:4])])
def test_buffers_predictions_and_scores_are_equal_to_the_bit(which, paths, request, tmp_path, monkeypatch):
    scores = set()
    for found in compared_with_exported(request.getfixturevalue(which), paths, tmp_path, monkeypatch):
        ours, theirs = found.buffers
        assert ours.keys() == theirs.keys()
        assert [k for k in ours if 'num_batches' not in k and not torch.equal(ours[k], theirs[k])] == []
        assert sum(len(prediction['scores']) for _, prediction in found.rows[0]) > 50
        for (_, first), (_, second) in zip(*found.rows, strict=True):
            assert first['img_id'] == second['img_id']
            assert all(np.array_equal(first[key], second[key]) for key in ('bboxes', 'scores', 'labels'))
        assert found.scores[0] == found.scores[1]
        scores.add(found.scores[0])
    assert len(scores) == len(paths)
