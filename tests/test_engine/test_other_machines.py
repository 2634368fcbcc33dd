"""Machines that lack something: a notebook's backend, a GPU, fcntl."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from detnas_mm.engine import launch
from detnas_mm.models import build_model
from tests import digits

ROOT = Path(__file__).parents[2]


def python(code, **environment):
    return subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, env=os.environ | environment
    )


@pytest.mark.parametrize(
    ('given', 'wanted'),
    [
        ('module://no_such_notebook.backend_inline', 'Agg'),
        ('module://', 'Agg'),
        ('module://matplotlib.backends.backend_svg', 'module://matplotlib.backends.backend_svg'),
        ('TkAgg', 'TkAgg'),
    ],
)
def test_a_notebooks_backend_that_is_not_here_gives_way(given, wanted):
    run = python('import detnas_mm, os; print(os.environ["MPLBACKEND"]); import matplotlib', MPLBACKEND=given)
    assert (run.stdout.strip(), run.returncode) == (wanted, 0), run.stderr


def test_a_supernet_trained_in_mixed_precision_is_searched_without_a_gpu():
    cfg = Config.fromfile(digits.CONFIGS / 'detnas-digits_search_retinanet.py')
    cfg.optim_wrapper.merge(dict(type='AmpOptimWrapper', loss_scale='dynamic'))
    only = launch.search_only(cfg)
    assert only.optim_wrapper == dict(type='OptimWrapper', optimizer=cfg.optim_wrapper.optimizer)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'  # exported nets train as it is written


@pytest.mark.slow
def test_nets_are_tested_without_fcntl_and_searches_refused_at_once(digits_folder, tmp_path):
    name = 'configs/digits/detnas-digits_net_retinanet.py'
    torch.save(build_model(Config.fromfile(ROOT / name)).state_dict(), tmp_path / 'a.pth')
    code = (
        'import runpy, sys; sys.modules["fcntl"] = None; sys.argv = {!r}; runpy.run_path(sys.argv[0], None, "__main__")'
    )
    run = python(code.format(['tools/test.py', name, str(tmp_path / 'a.pth'), '--work-dir', str(tmp_path / 'w')]))
    assert run.returncode == 0 and 'coco/bbox_mAP' in run.stdout + run.stderr, run.stderr[-2000:]
    search = 'configs/mae_det/maedet_search-exact_gfl_coco.py'
    run = python(code.format(['tools/search.py', search, '--work-dir', str(tmp_path / 's')]))
    assert run.returncode == 1 and 'ledger.jsonl cannot be locked' in run.stderr.splitlines()[-1]
    assert 'Use Linux or macOS' in run.stderr.splitlines()[-1]
