"""The configs of EDO: supernet, search and net fit together; each builds and takes a step on synthetic data."""

import json
import math

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from detnas_mm.engine import launch
from detnas_mm.engine.config import fit_to_machine, write_config
from detnas_mm.engine.export import Exporter
from detnas_mm.models import build_model
from detnas_mm.models.build import without_memory
from detnas_mm.search import SearchJob
from detnas_mm.systems.nats.layers import DilatedConv2d

from . import one_step
from .leaves import EDO, EDO_SEARCHES, LEAVES

TRAININGS = [name for name in EDO if name not in EDO_SEARCHES]
#: 3x3 convolutions and output channels of them all.
SIZES = {'edo-digits': (16, 3776 // 8), 'edo-r50': (16, 3776), 'edo-r101': (33, 8128)}


def of(name):
    """Returns the family of a config, such as ``'edo-r50'``."""
    return name.partition('_cls')[0].rpartition('_')[0]


def large_kernels(model):
    return [
        module for module in model.modules() if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (9, 9)
    ]


@pytest.mark.parametrize('name', EDO)
def test_builds(name, load):
    """Supernets and searches have a large kernel for every 3x3, the net has none; all begin from random weights."""
    cfg = fit_to_machine(load(name))
    init_default_scope(cfg.default_scope)
    with without_memory():
        model = MODELS.build(cfg.model)
    large = large_kernels(model)
    convs, channels = SIZES[of(name)]
    if '_net_' in name:
        assert not large and model.backbone.norm_eval is False
    else:
        assert (len(large), sum(conv.out_channels for conv in large)) == (convs, channels)
    assert cfg.model.backbone.get('init_cfg') is None and model.backbone.frozen_stages == -1
    assert model.head.num_classes == (10 if 'digits' in name else 1000)


@pytest.mark.parametrize('kind', SIZES)
def test_supernet_and_net_are_trained_alike(kind, load):
    one, other = (load(f'{kind}_{what}_cls{"" if "digits" in kind else "_imagenet"}') for what in ('supernet', 'net'))
    for key in (
        'optim_wrapper',
        'param_scheduler',
        'train_cfg',
        'train_dataloader',
        'data_preprocessor',
        'test_dataloader',
    ):
        assert one[key] == other[key], key


@pytest.mark.parametrize('name', EDO_SEARCHES)
def test_a_search_fits_its_supernet_and_its_net(name, load):
    cfg = load(name)
    before, after = name.replace('_search_', '_supernet_'), name.replace('_search_', '_net_')
    job = SearchJob.from_config(cfg)
    job.prepare()
    assert len(job.space.choices) == SIZES[of(name)][1] and set(job.space.choices) == {16}
    assert cfg.model == load(before).model
    assert job.export.config == f'detnas_mm::{LEAVES[name].parent.name}/{after}.py'
    training = Exporter(job).training
    for key in ('train_dataloader', 'test_dataloader', 'train_cfg', 'param_scheduler'):
        assert training[key] == load(after)[key], key
    if 'digits' not in name:
        assert cfg.load_from == f'work_dirs/{before}/epoch_{load(before).train_cfg.max_epochs}.pth'
    only = launch.search_only(job.cfg)
    for key in ('train_cfg', 'param_scheduler', 'custom_hooks', 'default_hooks'):
        assert only[key] == cfg[key], f'{key} is not that of a search-only job'


@pytest.mark.slow
@pytest.mark.usefixtures('data', 'quick')
@pytest.mark.parametrize('name', TRAININGS)
def test_trains(name, tmp_path):
    cfg = cut_down(Config.fromfile(LEAVES[name]), tmp_path)
    runner = one_step.train(cfg)
    assert runner.iter >= 1 and math.isfinite(runner.message_hub.get_scalar('train/loss').current())


@pytest.mark.slow
@pytest.mark.usefixtures('data', 'quick')
@pytest.mark.parametrize('name', EDO_SEARCHES)
def test_searches(name, tmp_path):
    """A row a convolution; the last one's config is of the net, without weights, and builds."""
    cfg = cut_down(Config.fromfile(LEAVES[name]), tmp_path)
    cfg.load_from = str(one_step.save_random_weights(cfg, tmp_path / 'random.pth'))
    cfg.search.evaluator.update(num_images=4)
    cfg.search.evaluator.dataloader.update(batch_size=2)
    cfg.search.export.config = str(tmp_path / 'training.py')
    net = cut_down(Config.fromfile(LEAVES[name.replace('_search_', '_net_')]), tmp_path)
    write_config(net, tmp_path / 'training.py')
    launch.search(cfg)
    rows = [json.loads(line) for line in (tmp_path / 'ledger.jsonl').read_text().splitlines()][1:]
    assert len(rows) == SIZES[of(name)][0]
    (best,) = json.loads((tmp_path / 'best.json').read_text())
    assert best['arch'] == rows[-1]['arch'] and 'checkpoint' not in best and 'search_val' not in best
    found = Config.fromfile(tmp_path / best['config'])
    assert found.train_dataloader == net.train_dataloader and 'search' not in found and not found.get('load_from')
    model = build_model(found)
    dilated = [module for module in model.modules() if isinstance(module, DilatedConv2d)]
    assert len(dilated) == len(rows) and found.model.backbone.genotypes == best['arch']


def cut_down(cfg, folder):
    """One iteration, or one epoch of two images."""
    cfg = one_step.cut_down(cfg, folder)
    if cfg.train_cfg.get('max_epochs'):
        cfg.train_cfg.update(max_epochs=1)
        cfg.train_dataloader.dataset.indices = 2
    return cfg
