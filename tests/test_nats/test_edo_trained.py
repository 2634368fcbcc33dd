"""EDO on a net that was trained: how well the mean map orders dilations, and what a search leaves behind."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from scipy.stats import spearmanr

from detnas_mm.cli import typed
from detnas_mm.engine import launch
from detnas_mm.engine.export import next_commands
from detnas_mm.models import build_model
from detnas_mm.search import SearchJob, read_ledger
from detnas_mm.systems.nats import DilatedConv2d
from tests import digits
from tests.test_nats.nets import rng


@pytest.fixture(scope='module')
def trained(digits_folder, tmp_path_factory):
    """Checkpoint of a supernet with large kernels that has learnt a little of Digits."""
    folder, steps = tmp_path_factory.mktemp('edo'), 80
    warm_up = [dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=20)]
    runner = digits.runner(
        'edo-digits_supernet_cls', folder, train_cfg__max_iters=steps, param_scheduler=warm_up,
        default_hooks__logger__interval=5,
    )  # fmt: skip
    runner.train()
    assert runner.message_hub.get_scalar('train/loss').mean(10) < 2.2  # ln 10 is 2.30
    return folder / f'iter_{steps}.pth'


def search_cfg(folder, **changes):
    return digits.written('edo-digits_search_cls', folder, search__evaluator__num_images=200, **changes)


@pytest.mark.slow
def test_the_mean_map_orders_dilations_as_measured_errors_do(trained, tmp_path):
    """On a trained net, by rank correlation a channel; its choices have a smaller error than random ones."""
    scores = {}
    with digits.scope('mmpretrain'):
        for statistic in ('mean_map', 'error'):
            cfg = search_cfg(tmp_path, search__evaluator__statistic=statistic)
            model = build_model(cfg)
            model.load_state_dict(torch.load(trained, weights_only=False)['state_dict'])
            job = SearchJob.from_config(cfg)
            job.prepare()
            job.evaluator.setup(job, model)
            scores[statistic] = [job.evaluator.gene_scores(number) for number in range(len(job.space.convs))]
    for conv, mean, measured in zip(job.space.convs, scores['mean_map'], scores['error'], strict=True):
        ranks = [spearmanr(one, other)[0] for one, other in zip(mean, measured, strict=True)]
        assert np.mean(ranks) > 0.5, conv.name
        chosen = np.take_along_axis(measured, mean.argmin(1)[:, None], 1).sum()
        draws = [rng(seed).integers(0, 16, len(measured)) for seed in range(5)]
        at_random = [measured[np.arange(len(measured)), drawn].sum() for drawn in draws]
        assert chosen < min(at_random), conv.name


@pytest.mark.slow
def test_what_is_found_is_a_config_to_pre_train(trained, tmp_path):
    work = tmp_path / 'search'
    launch.search(search_cfg(work), str(trained))
    rows = read_ledger(work / 'ledger.jsonl')[1]
    assert [row.generation for row in rows] == list(range(16))
    (best,) = json.loads((work / 'best.json').read_text())
    assert best['arch'] == rows[-1].arch and not list(work.glob('best/*.pth'))
    path = work / best['config']
    assert next_commands(dict(config=path)) == [f'Train it: {typed("train.py", path)}']
    launch.search(search_cfg(work), str(trained))  # finished: it reads its rows
    assert read_ledger(work / 'ledger.jsonl')[1] == rows
    cfg = Config.fromfile(path)
    assert cfg.model.backbone.genotypes == best['arch'] and cfg.model.backbone.plain == 'mmpretrain.ResNet'
    cfg.merge_from_dict(dict(work_dir=str(tmp_path / 'net'), launcher='none', train_cfg=dict(max_iters=2)))
    model = launch.run(cfg)
    assert sum(isinstance(module, DilatedConv2d) for module in model.modules()) == 16
    assert all(value.isfinite().all() for value in model.state_dict().values())
