"""A search whose candidates are whole detectors, from its config to what it exports."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from detnas_mm.engine.search import export_row, run_search
from detnas_mm.models import build_model
from tests.jobs import prepared
from tests.test_toys.detectors import search_config


@pytest.fixture
def cfg(tmp_path, digits_folder):
    return search_config(tmp_path / 'search')


def test_whole_detectors_are_searched_and_exported(cfg, tmp_path):
    lines = []
    job = prepared(cfg, lines.append)
    with DefaultScope.overwrite_default_scope('mmdet'):
        best = run_search(job)
    assert len(best) == 4 and best[0].arch.endswith('@96') and best[-1].arch.endswith('@64')
    entries = json.loads((tmp_path / 'search' / 'best.json').read_text())
    kinds = set()
    for entry in entries:
        exported = Config.fromfile(tmp_path / 'search' / entry['config'])
        head, size = entry['arch'].split('@')
        (resize,) = (step for step in exported.test_dataloader.dataset.pipeline if step.type == 'Resize')
        assert resize.scale == (int(size), int(size)) and 'search' not in exported
        model = build_model(exported)
        assert type(model.bbox_head).__name__ == head
        state = torch.load(tmp_path / 'search' / entry['checkpoint'], weights_only=True)['state_dict']
        model.load_state_dict(state, strict=True)
        kinds.add(type(model).__name__)
    assert kinds == {'RetinaNet', 'GFL'}
    for command in ('Test it:', 'Train it further, from these weights:'):
        assert any(line.startswith(command) for line in lines)
    assert not any('search-val' in line for line in lines)  # its evaluator names no test that gives the fitness
    files = export_row(tmp_path / 'search', best[1].id)
    assert files['config'].is_file() and files['checkpoint'].is_file()
