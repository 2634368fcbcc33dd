"""Evaluators on trained supernets."""

import pytest

from tests.judge import PATHS, Judge


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
