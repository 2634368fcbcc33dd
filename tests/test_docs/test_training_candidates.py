"""Runs the example of docs/training_candidates.md, with two short trainings."""

import json
import os
import re
import subprocess
import sys

import pytest
from mmengine.config import Config

from .commands import FENCE, ROOT

PAGE = ROOT / 'docs/training_candidates.md'
FEW = (
    'train_cfg.max_epochs=1 train_cfg.val_interval=1 train_dataloader.dataset.indices=32 '
    'val_dataloader.dataset.indices=20 model.test_cfg.score_thr=0.0 search.budget.generations=1 '
    'search.strategy.population=2 search.strategy.parents=1 search.strategy.mutation=1 search.strategy.crossover=1'
)


@pytest.fixture
def project(tmp_path, digits_folder):
    """The folder of a user who has typed the page, and has made the data."""
    for kind, text in FENCE.findall(PAGE.read_text()):
        if kind == 'python' and (name := re.match(r'# (\w+\.py)\n', text)):
            (tmp_path / name[1]).write_text(text)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/digits').symlink_to(digits_folder)
    return tmp_path


def run(project, *words):
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(project), str(ROOT)]), OMP_NUM_THREADS='1')
    done = subprocess.run([sys.executable, *map(str, words)], cwd=project, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_space_keeps_its_contract(project):
    assert '1 passed' in run(project, '-m', 'pytest', '-q', 'test_my_space.py')


@pytest.mark.slow
def test_it_trains_and_exports(project):
    printed = run(project, ROOT / 'tools/search.py', 'my_search.py', '--cfg-options', *FEW.split())
    folder = project / 'work_dirs/my_search'
    for net in json.loads((folder / 'best.json').read_text()):
        depth, width, side = map(int, net['arch'].split('-'))
        cfg = Config.fromfile(folder / net['config'], import_custom_modules=False)
        assert (cfg.model.backbone.depth, cfg.model.neck.out_channels) == (depth, width)
        assert cfg.test_dataloader.dataset.pipeline[1].scale == (side, side)
        assert net['metrics']['coco/bbox_mAP'] >= 0 and net['costs']['macs'] > 1e6
        assert (folder / net['checkpoint']).is_file()
    assert 'Forecast: 2 trainings at most' in printed and 'Train it further' in printed
