"""The configs of NATS and IC-Conv: what they build, the paper's recipe, a step of each on images in that layout."""

import json
import math

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from detnas_mm.engine import launch
from detnas_mm.engine.config import fit_to_machine, write_config
from detnas_mm.engine.export import Exporter
from detnas_mm.models import build_model, without_memory
from detnas_mm.search import SearchJob
from detnas_mm.systems.nats import DilatedConv2d, DilationSpace

from . import one_step
from .leaves import (
    IC_CONV,
    LEAVES,
    NATS,
    NATS_DIGITS,
    NATS_EVOLUTION,
    NATS_MIXTURE,
    NATS_NETS,
    NATS_PATHS,
    NATS_SEARCHES,
)

PLAIN = {'r50': ('ResNet', 50), 'r101': ('ResNet', 101), 'x101': ('ResNeXt', 101)}
#: The searches on the paper's parts of COCO 2014.
PAPERS_PARTS = [name for name in NATS_SEARCHES if name.endswith('2014')]
DETECTORS = {
    'fpn': 'FasterRCNN',
    'retinanet': 'RetinaNet',
    'mask': 'MaskRCNN',
    'cascade': 'CascadeRCNN',
    'cascade-mask': 'CascadeRCNN',
}


def parts(name):
    """(backbone, detector, data) as a name has them: nats-<backbone>_<what>_<detector>_<data>."""
    first, _, detector, data = name.split('_')
    return first.removeprefix('nats-'), detector, data


def build(cfg):
    cfg = fit_to_machine(cfg)
    cfg.model.backbone.pop('init_cfg', None)
    with without_memory():
        return build_model(cfg)


@pytest.mark.parametrize('name', NATS_NETS + NATS_SEARCHES)
def test_builds(name, load):
    cfg = load(name)
    backbone, detector, data = parts(name)
    own = cfg.model.backbone
    assert own.norm_cfg == dict(type='SyncBN', requires_grad=True) and not own.norm_eval  # as the paper's baselines
    assert own.init_cfg.type == 'Pretrained' and own.init_cfg.checkpoint.endswith(
        dict(r50='resnet50', r101='resnet101', x101='resnext101_32x4d')[backbone]
    )
    model = build(cfg)
    kind, depth = PLAIN[backbone]
    assert type(model).__name__ == DETECTORS[detector] and model.backbone.depth == depth
    assert kind in [cls.__name__ for cls in type(model.backbone).__mro__]
    if name in NATS_NETS:
        convs = [module for module in model.backbone.modules() if isinstance(module, DilatedConv2d)]
        assert len(convs) == {50: 13, 101: 30}[depth] and type(model.backbone).__name__ == kind
        assert cfg.test_dataloader and cfg.train_cfg.max_iters == 13 * dict(coco=7330, voc=1035)[data]


@pytest.mark.parametrize('name', NATS_SEARCHES)
def test_searches_are_the_papers(name, load):
    cfg = load(name)
    backbone, detector, data = parts(name)
    job = SearchJob.from_config(cfg)
    model = build(cfg)
    model.backbone.check_space(job.space)
    groups = 13 * 16 if backbone == 'r50' else len(job.space.choices)
    assert isinstance(job.space, DilationSpace) and len(job.space.choices) == groups
    assert (cfg.train_cfg.max_epochs, cfg.train_cfg.alpha_from) == (25, 10)
    weights, alpha = cfg.train_dataloader.dataset, cfg.train_cfg.alpha_dataloader.dataset
    assert weights.ann_file != alpha.ann_file and weights.pipeline == alpha.pipeline
    assert 'Flip' not in repr(cfg.custom_hooks) and weights.ann_file in repr(cfg.custom_hooks)
    assert cfg.search.export.config == f'detnas_mm::nats/nats-{backbone}_net_{detector}_{data.removesuffix("2014")}.py'
    retrained = load(cfg.search.export.config.split('/')[-1].removesuffix('.py'))
    assert retrained.model.backbone.init_cfg == cfg.model.backbone.init_cfg


def test_evolution_is_of_the_gradient_searchs_space(load):
    """Its supernet is trained with as many images as the weights of that search; candidates see none of them."""
    paths, cfg, by_gradient = load(NATS_PATHS), load(NATS_EVOLUTION), load('nats-r50_search_fpn_coco')
    job = launch.search_job(cfg, 'supernet.pth')
    model = build(cfg)
    model.backbone.check_space(job.space)
    model.backbone.check_space(SearchJob.from_config(by_gradient).space)
    assert not model.backbone.mixture and cfg.model.backbone.get('init_cfg') is None
    assert paths.model.backbone.init_cfg == by_gradient.model.backbone.init_cfg
    assert paths.optim_wrapper.optimizer == by_gradient.optim_wrapper.optimizer
    assert paths.train_dataloader.batch_size == by_gradient.train_dataloader.batch_size
    assert paths.train_cfg.max_iters == by_gradient.train_cfg.max_epochs * math.ceil(58633 / 8)
    assert cfg.load_from == f'work_dirs/{NATS_PATHS}/iter_{paths.train_cfg.max_iters}.pth'
    assert [hook.type for hook in paths.custom_hooks] == ['detnas_mm.PathSamplingHook']
    assert 'search_val' in repr(cfg.search.evaluator.dataloader) and 'search_val' not in repr(paths.train_dataloader)
    assert 'search_val' not in repr(cfg.search.evaluator.calibration) and 'Flip' not in repr(cfg.search.evaluator)
    cfg.merge_from_dict({'search.strategy': dict(_delete_=True, type='RandomStrategy', population=1000)})
    at_random = launch.search_job(cfg, 'supernet.pth')  # as the config's comment says
    assert type(at_random.strategy).__name__ == 'RandomStrategy'
    training = Exporter(job).training
    for key in ('train_dataloader', 'test_dataloader', 'train_cfg', 'param_scheduler'):
        assert training[key] == load('nats-r50_net_fpn_coco')[key], key
    only = launch.search_only(job.cfg)
    for key in ('train_cfg', 'param_scheduler', 'custom_hooks', 'default_hooks'):
        assert only[key] == cfg[key], f'{key} is not that of a search-only job'


def test_evolution_in_the_supernet_of_the_gradient_search(load):
    """Its checkpoint loads whole; candidates see none of the images that its weights were trained on."""
    cfg, by_gradient, by_paths = load(NATS_MIXTURE), load('nats-r50_search_fpn_coco'), load(NATS_EVOLUTION)
    job = launch.search_job(cfg, 'supernet.pth')
    model = build(cfg)
    model.backbone.check_space(job.space)
    names = {key: value.shape for key, value in model.state_dict().items()}
    assert names == {key: value.shape for key, value in build(by_gradient).state_dict().items()}
    assert model.backbone.mixture and cfg.load_from == 'work_dirs/nats-r50_search_fpn_coco/epoch_25.pth'
    own, alpha = cfg.search.evaluator.dataloader.dataset, by_gradient.train_cfg.alpha_dataloader.dataset
    assert (own.ann_file, own.indices, own.data_prefix) == (alpha.ann_file, 5000, alpha.data_prefix)
    assert cfg.search.evaluator.metric.ann_file.endswith(own.ann_file)
    trained = by_gradient.train_dataloader.dataset.ann_file
    assert cfg.search.evaluator.calibration.dataloader.dataset.ann_file == trained != own.ann_file
    for key in ('space', 'strategy', 'objectives', 'budget', 'export'):
        assert cfg.search[key] == by_paths.search[key], key


@pytest.mark.parametrize('name', NATS_DIGITS)
def test_on_digits(name, load):
    """All are of one space, and begin with what the pre-training on crops leaves."""
    cfg = load(name)
    model = build(cfg)
    if 'search' in cfg:
        job = SearchJob.from_config(cfg)
        model.backbone.check_space(job.space)
        assert len(job.space.choices) == 13 * 8 and job.export.config.endswith(f'net_{name.split("_")[-1]}.py')
    pretraining = build(load('edo-digits_net_cls')).backbone
    shapes = {key: value.shape for key, value in pretraining.state_dict().items()}
    own = {key: value.shape for key, value in model.backbone.state_dict().items() if not key.endswith('.alpha')}
    assert own == shapes


@pytest.mark.parametrize('name', IC_CONV)
def test_published_nets(name, load):
    """The pattern of its name; only a checkpoint in its order is taken."""
    cfg = load(name)
    backbone, detector, _ = name.removeprefix('ic-conv-').split('_')
    what = 'segmentation' if 'mask' in detector else 'detection'
    assert cfg.model.backbone.genotypes == f'ic-{backbone.replace("r", "resnet")}-{what}'
    assert cfg.model.backbone.init_cfg.checkpoint == f'checkpoints/{cfg.model.backbone.genotypes}.pth'
    model = build(cfg)
    assert type(model).__name__ == DETECTORS[detector] and cfg.train_cfg.max_iters == 12 * 7330
    assert model.roi_head.with_mask is ('mask' in detector)
    assert cfg.test_evaluator.metric == (['bbox', 'segm'] if 'mask' in detector else 'bbox')
    convs = [module for module in model.backbone.modules() if isinstance(module, DilatedConv2d)]
    assert len(convs) == dict(r50=16, r101=33)[backbone]


@pytest.mark.parametrize('name', [name for name in IC_CONV if '-r101_' in name])
def test_published_nets_of_resnet_101_differ_in_depth_and_pattern(name, load):
    """So that the steps of ResNet-50's configs, below, are theirs as well."""
    ours, theirs = load(name), load(name.replace('-r101_', '-r50_'))
    for cfg in (ours, theirs):
        cfg.model.backbone.update(depth=50, genotypes='', init_cfg=None)
    assert ours.to_dict() == theirs.to_dict()


def pretrained(cfg, folder):
    """Random weights of the plain backbone as a file, and the config that begins with them."""
    own = {key: value for key, value in cfg.model.backbone.items() if key not in ('space', 'mixture', 'init_cfg')}
    own = dict(own, type=own.pop('plain'))
    own.pop('genotypes', None), own.pop('stages', None)
    net = build_model(fit_to_machine(Config(dict(model=dict(own), default_scope='mmdet'))))
    torch.save(net.state_dict(), folder / 'plain.pth')
    return str(folder / 'plain.pth')


@pytest.mark.slow
@pytest.mark.usefixtures('data', 'quick')
@pytest.mark.parametrize('name', [*NATS_NETS, NATS_PATHS, *(name for name in IC_CONV if '-r50_' in name)])
def test_trains(name, load, tmp_path):
    cfg = one_step.cut_down(load(name), tmp_path)
    runner = one_step.train(cfg)
    assert runner.iter == 1 and math.isfinite(runner.message_hub.get_scalar('train/loss').current())


@pytest.mark.slow
@pytest.mark.usefixtures('data', 'quick')
@pytest.mark.parametrize('name', PAPERS_PARTS)
def test_the_papers_parts_change_nothing_but_the_data(name, load):
    """All else is the config's on halves of train2017, which is run below; the images can be read."""
    ours, theirs = load(name), load(name.removesuffix('2014'))
    for cfg in (ours, theirs):
        loaders = [cfg.train_dataloader, cfg.train_cfg.alpha_dataloader, cfg.custom_hooks[1].calibration.dataloader]
        datasets = [loader.pop('dataset') for loader in loaders]
        for key in ('weights', 'alpha_data', 'calibration'):  # variables of the data's config
            cfg.pop(key, None)
        if cfg is ours:
            init_default_scope('mmdet')
            images = [DATASETS.build(dataset)[0] for dataset in datasets]
            assert all(item['inputs'].ndim == 3 and len(item['data_samples'].gt_instances) == 2 for item in images)
            assert [dataset.data_prefix.img for dataset in datasets] == ['train2014/', 'val2014/', 'train2014/']
    assert ours.to_dict() == theirs.to_dict()


@pytest.mark.slow
@pytest.mark.usefixtures('data', 'quick')
@pytest.mark.parametrize('name', [name for name in NATS_SEARCHES if name not in PAPERS_PARTS])
def test_searches(name, load, tmp_path):
    """An epoch of a step, from the plain backbone's weights; the found net is exported."""
    cfg = load(name)
    checkpoint = pretrained(cfg, tmp_path) if 'r50' in name else None
    cfg = one_step.cut_down(cfg, tmp_path / 'search')
    if checkpoint:
        cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=checkpoint)
    cfg.train_cfg.update(max_epochs=1, alpha_from=0)
    cfg.train_cfg.alpha_dataloader.batch_size = 2
    cfg.train_dataloader.dataset.indices = cfg.train_cfg.alpha_dataloader.dataset.indices = 2
    hook = next(hook for hook in cfg.custom_hooks if 'NATS' in hook.type)
    hook.calibration.num_images = 2
    hook.calibration.dataloader.batch_size = 2
    training = one_step.cut_down(load(cfg.search.export.config.split('/')[-1].removesuffix('.py')), tmp_path / 'net')
    cfg.search.export.config = str(tmp_path / 'training.py')
    write_config(training, tmp_path / 'training.py')
    launch.search(cfg)
    rows = [json.loads(line) for line in (tmp_path / 'search' / 'ledger.jsonl').read_text().splitlines()][1:]
    assert len(rows) == 1 and math.isfinite(rows[0]['metrics']['alpha_entropy'])
    (best,) = json.loads((tmp_path / 'search' / 'best.json').read_text())
    found = Config.fromfile(tmp_path / 'search' / best['config'])
    state = torch.load(tmp_path / 'search' / best['checkpoint'], weights_only=True)['state_dict']
    build_model(fit_to_machine(found)).load_state_dict(state, strict=True)


@pytest.mark.slow
@pytest.mark.usefixtures('data', 'quick')
@pytest.mark.parametrize('name', [NATS_EVOLUTION, NATS_MIXTURE])
def test_searches_by_evolution(name, load, tmp_path):
    cfg = one_step.cut_down(load(name), tmp_path)
    one_step.cut_down_search(cfg, one_step.save_random_weights(cfg, tmp_path / 'random.pth'))
    cfg.search.evaluator.dataloader.dataset.indices = cfg.search.evaluator.calibration.num_images = 2
    cfg.search.export.config = str(tmp_path / 'training.py')
    write_config(one_step.cut_down(load('nats-r50_net_fpn_coco'), tmp_path), tmp_path / 'training.py')
    launch.search(cfg)
    rows = [json.loads(line) for line in (tmp_path / 'ledger.jsonl').read_text().splitlines()][1:]
    assert len(rows) == 2 and all(math.isfinite(row['metrics']['coco/bbox_mAP']) for row in rows)
    (best,) = json.loads((tmp_path / 'best.json').read_text())
    state = torch.load(tmp_path / best['checkpoint'], weights_only=True)['state_dict']
    for key in ('config', 'search_val'):
        exported = fit_to_machine(Config.fromfile(tmp_path / best[key]))
        assert exported.model.backbone.genotypes == best['arch']
        build_model(exported).load_state_dict(state, strict=True)


def test_leaves_are_all_there():
    assert (len(NATS_NETS), len(NATS_SEARCHES), len(IC_CONV)) == (7, 13, 8) and not set(NATS_NETS) & set(NATS_SEARCHES)
    assert all(LEAVES[name].parent.name == 'nats' for name in NATS_NETS)
    others = {NATS_PATHS, NATS_EVOLUTION, NATS_MIXTURE, *(name for name in NATS if name.startswith('edo-'))}
    assert set(NATS) == {*NATS_NETS, *NATS_SEARCHES, *IC_CONV, *others}
