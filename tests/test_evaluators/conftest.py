"""Evaluators on trained supernets."""

import pytest
from mmengine.registry import DefaultScope

from detnas_mm.engine.search import run_search
from tests.judge import PATHS, Judge
from tests.test_evaluators import training


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


@pytest.fixture
def search(tmp_path, digits_folder, monkeypatch):
    """Runs a search with fake workers; returns these and the rows, without what may differ between two runs."""
    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, False))  # yapf: half the time

    def run(
        evaluator=None, workers=None, folder='search', log=lambda text: None, retry=False, give_up=False, change=None,
        **settings,
    ):  # fmt: skip
        cfg = training.config(tmp_path / folder, evaluator, **settings)
        if change is not None:
            change(cfg)
        workers = workers or training.FakeWorkers()
        job = training.job(cfg, log)
        job.evaluator.workers, job.retry_failed, job.fail_lost = workers, retry, give_up
        with DefaultScope.overwrite_default_scope('mmdet'):
            run_search(job)
        return workers, training.rows(tmp_path / folder)

    return run
