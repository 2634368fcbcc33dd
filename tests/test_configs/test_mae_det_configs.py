"""The configs of MAE-DET: what they build, the authors' recipe, and searches that end in such a config."""

import json
import math

import pytest
import torch
from mmdet.models import ResNet
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from detnas_mm import zoo
from detnas_mm.engine.config import fit_to_machine
from detnas_mm.engine.launch import search_job
from detnas_mm.search import ParetoStrategy, SearchJob
from detnas_mm.systems.mae_det import ExactStrategy, MAEDetNet
from tests.jobs import run

from . import one_step
from .leaves import LEAVES, MAEDET, MAEDET_DIGITS, MAEDET_NETS, MAEDET_SEARCHES
from .test_metafiles import ROOT, models

#: Images to train on, and iterations that make an epoch of them.
DATA = {'coco': (117_266, 7330), 'voc': (16_551, 1035)}
OF_RESNET50 = dict(flops=188e8, layers=91)


def build(cfg):
    cfg = fit_to_machine(cfg)
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        return MODELS.build(cfg.model)


@pytest.mark.parametrize('name', MAEDET)
def test_builds(name, load):
    """The net and detector of its name; neck and head fit; all from random weights."""
    cfg = load(name)
    assert cfg.model.backbone.norm_cfg == cfg.model.neck.norm_cfg == dict(type='SyncBN')
    assert cfg.model.backbone.get('init_cfg') is None and cfg.model.backbone.get('frozen_stages', -1) == -1
    assert not cfg.model.backbone.get('norm_eval', False) and cfg.load_from is None
    model = build(cfg)
    net, detector = name.split('_')[0], cfg.model.type.lower()
    assert detector == name.split('_')[-2]
    assert model.bbox_head.num_classes == {'coco': 80, 'voc': 20}[name.split('_')[-1]]
    if net == 'resnet50-control':
        assert type(model.backbone) is ResNet and model.backbone.depth == 50
        channels = [256, 512, 1024, 2048]
    else:
        assert type(model.backbone) is MAEDetNet
        assert net == 'maedet' or model.backbone.arch == zoo.get(net).architecture()
        channels = list(model.backbone.channels)
    assert cfg.model.neck.in_channels == channels
    width = 192 if net == 'maedet-s' else 256
    assert (cfg.model.neck.out_channels, cfg.model.bbox_head.in_channels, cfg.model.bbox_head.feat_channels) == (
        width, width, width,
    )  # fmt: skip


@pytest.mark.parametrize('name', MAEDET)
def test_the_recipe(name, load):
    cfg = load(name)
    images, epoch = DATA[name.split('_')[-1]]
    assert math.ceil(images / 16) == epoch
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4)
    warm_up, steps = cfg.param_scheduler
    assert warm_up == dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=epoch)
    assert steps.milestones == [65 * epoch, 71 * epoch] and steps.gamma == 0.1
    assert cfg.train_cfg.max_iters == steps.end == 73 * epoch
    assert cfg.default_hooks.checkpoint.interval == epoch and cfg.train_cfg.val_interval == 5 * epoch
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 16
    datasets = cfg.train_dataloader.dataset.get('datasets', [cfg.train_dataloader.dataset])
    for dataset in datasets:
        (resize,) = (step for step in dataset.pipeline if 'Resize' in step.type)
        assert resize == dict(type='RandomResize', scale=[(1333, 480), (1333, 960)], keep_ratio=True)
    (resize,) = (step for step in cfg.test_dataloader.dataset.pipeline if 'Resize' in step.type)
    assert resize == dict(type='Resize', scale=(1333, 800), keep_ratio=True)
    files = [dataset.ann_file for dataset in datasets]
    voc = [f'VOC{year}/ImageSets/Main/trainval.txt' for year in (2007, 2012)]
    assert files == (voc if name.endswith('_voc') else ['annotations/instances_train2017.json'])


@pytest.mark.parametrize('name', MAEDET_SEARCHES)
def test_searches(name, load):
    """No model, no checkpoint, no data; budgets are ResNet-50's, or those that the name says."""
    cfg = load(name)
    job = search_job(cfg)
    assert not job.needs_model and job.budget.idle_constraints() == [
        constraint for constraint in job.budget.constraints if constraint.cost == 'rho' and 'deepmad' not in name
    ]
    limits = {constraint.cost: constraint.high for constraint in job.budget.constraints}
    published = name.split('_')[1].removeprefix('search-exact-')
    if f'maedet-{published}' in zoo.nets():
        net = zoo.get(f'maedet-{published}')
        assert job.space.name == 'relaxed' and job.space.parse(net.name)
        flops = job.budget.cost_model('flops').total(net.name)
        assert limits == dict(flops=flops, params=net.params, layers=net.layers)
    else:
        more = {'search-exact-params': dict(params=23.5e6), 'search-deepmad': dict(rho=0.3)}
        wanted = OF_RESNET50 | more.get(name.split('_')[1], {})
        if name.split('_')[1] in ('search-latency', 'search-exact-latency', 'search-front'):
            wanted = dict(latency_to_resnet50=1.0, layers=91)
        assert job.space.name == 'authors' and limits == wanted
    if 'exact' in name:
        assert isinstance(job.strategy, ExactStrategy) and job.generations == 1
        assert job.strategy.score.spec() == job.evaluator.spec()
    elif 'front' in name:
        assert isinstance(job.strategy, ParetoStrategy) and len(job.objectives) == 2 and job.export.front_k == 12
    else:
        strategy = job.strategy
        assert (strategy.population, strategy.candidates * job.generations) == (256, 100_000)


@pytest.mark.parametrize(
    'name', [name for name in MAEDET_SEARCHES if not {'exact', 'front'} & set(name.replace('_', '-').split('-'))]
)
def test_a_search_ends_in_a_config_like_the_others(name, load, tmp_path):
    cfg = load(name)
    cfg.work_dir = str(tmp_path)
    cfg.search.strategy.candidates = 1000
    cfg.search.budget.generations = 7
    job, best = run(cfg)
    found = Config.fromfile(tmp_path / json.loads((tmp_path / 'best.json').read_text())[0]['config'])
    plain = load(f'maedet-s_gfl_{name.split("_")[-1]}')
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'train_dataloader', 'test_dataloader', 'env_cfg'):
        assert found[key] == plain[key], key
    model = build(found)
    assert model.backbone.arch == job.space.parse(best[0].arch)
    assert found.model.neck.in_channels == list(model.backbone.channels)


def test_a_search_ends_in_the_front_as_configs(load, tmp_path):
    """Each net of the front is better or quicker than all others, within the limits; some, far apart, are exported."""
    cfg = load('maedet_search-front_gfl_coco')
    cfg.work_dir = str(tmp_path)
    cfg.search.strategy.update(population=60, parents=20)
    cfg.search.budget.generations = 4
    cfg.search.export.front_k = 3
    job, best = run(cfg)
    entries = json.loads((tmp_path / 'best.json').read_text())
    assert len(best) == 240 and len(entries) == 3
    entropy = [entry['metrics']['entropy'] for entry in entries]
    latency = [entry['costs']['latency'] for entry in entries]
    assert entropy == sorted(entropy, reverse=True) and latency == sorted(latency, reverse=True)
    assert entropy[0] == max(record.metrics['entropy'] for record in best)
    assert latency[-1] == min(record.costs['latency'] for record in best)
    assert all(record.costs['latency_to_resnet50'] <= 1 for record in best)
    for entry in entries:
        found = Config.fromfile(tmp_path / entry['config'])
        model = build(found)
        assert model.backbone.arch == job.space.parse(entry['arch'])
        assert found.model.neck.in_channels == list(model.backbone.channels) and 'search' not in found
    assert (tmp_path / 'progress.png').read_bytes()[:4] == b'\x89PNG'


def test_a_checkpoint_that_is_not_read_is_named(load, capsys):
    job = search_job(load('maedet_search_gfl_coco'), 'supernet.pth')
    assert 'load_from' not in job.cfg
    assert 'EntropyScore needs no model: supernet.pth is not read.' in capsys.readouterr().out
    assert 'load_from' not in job.text and Config.fromstring(job.text, '.py').to_dict() == job.cfg.to_dict()


def test_exact_search_ends_at_the_latency_of_resnet50(load, tmp_path):
    """Within a table on paper, with its proof, in the same config as all others."""
    cfg = load('maedet_search-exact-latency_gfl_coco')
    cfg.work_dir = str(tmp_path)
    cfg.search.strategy.gap = 0.01
    job, (best,) = run(cfg)
    proof = json.loads((tmp_path / 'certificate.json').read_text())
    assert proof['budgets'] == dict(latency_to_resnet50=1.0, layers=91) and 0 <= proof['gap'] <= 0.01
    assert 0.95 < best.costs['latency_to_resnet50'] <= 1 and best.costs['layers'] <= 91
    assert best.metrics['entropy'] == pytest.approx(proof['value'], rel=1e-12)
    found = Config.fromfile(tmp_path / json.loads((tmp_path / 'best.json').read_text())[0]['config'])
    assert build(found).backbone.arch == job.space.parse(best.arch)


def test_the_phases_are_coarse_to_fine(load):
    first, second = SearchJob.from_config(load('maedet_search-coarse-to-fine_gfl_coco')).strategy.phases
    assert set(first[0]) == {'out', 'kernel', 'depth', 'bottleneck'} and set(second[0]) == {'out', 'bottleneck'}


def test_totals_of_published_nets(load):
    """FLOPs (multiply-adds) and parameters are the zoo's; other models have none."""
    listed = {model['Name']: model['Metadata'] for model in models(ROOT / 'configs' / 'mae_det')}
    listed = {name: data for name, data in listed.items() if 'FLOPs' in data}
    assert set(listed) == {name for name in MAEDET_NETS if name.startswith('maedet-')}
    for name, data in listed.items():
        net = zoo.get(load(name).model.backbone.arch)
        assert (data['FLOPs'], data['Parameters']) == (net.macs, net.params)


# -- Digits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', MAEDET_DIGITS)
def test_digits_builds(name, load):
    cfg = load(name)
    model = build(cfg)
    assert model.bbox_head.num_classes == 10
    if name == 'maedet-digits_resnet50-control_retinanet':
        assert type(model.backbone) is ResNet and model.backbone.depth == 50
        assert cfg.model.neck.in_channels == [512, 1024, 2048] and cfg.model.backbone.get('init_cfg') is None
    else:
        assert type(model.backbone) is MAEDetNet
        assert cfg.model.neck.in_channels == list(model.backbone.channels[1:])
        size = name.split('_')[1]
        assert size not in ('s', 'm', 'l') or model.backbone.arch == zoo.get(f'maedet-{size}').architecture()
    assert cfg.model.backbone.out_indices == (1, 2, 3) and cfg.train_cfg.max_iters == 2000


def test_digits_searches_at_the_cost_of_the_control(load, tmp_path):
    """The budget is the control's to the unit; the three nets are within it; the config holds what the search finds."""
    cfg = load('maedet-digits_search_retinanet')
    cfg.work_dir = str(tmp_path)
    job, (best,) = run(cfg)
    names = [f'maedet-digits_{kind}_retinanet' for kind in ('found', 'random', 'resnet')]
    nets = {name: job.space.parse(load(name).model.backbone.arch) for name in names}
    limits = {constraint.cost: constraint.high for constraint in job.budget.constraints}
    assert job.budget.costs(nets['maedet-digits_resnet_retinanet']) == limits
    assert job.budget.allows(list(nets.values())).all() and len(set(nets.values())) == 3
    assert job.space.parse(best.arch) == nets['maedet-digits_found_retinanet']
    proof = json.loads((tmp_path / 'certificate.json').read_text())
    assert 0 <= proof['gap'] < 0.005
    found = Config.fromfile(tmp_path / json.loads((tmp_path / 'best.json').read_text())[0]['config'])
    assert found.model == load('maedet-digits_found_retinanet').model


@pytest.mark.slow
@pytest.mark.usefixtures('data', 'quick')
@pytest.mark.parametrize('name', MAEDET_NETS + [name for name in MAEDET_DIGITS if 'search' not in name])
def test_trains(name, tmp_path):
    """A step on synthetic images."""
    cfg = one_step.cut_down(Config.fromfile(LEAVES[name]), tmp_path)
    runner = one_step.train(cfg)
    assert runner.iter == 1
    assert math.isfinite(runner.message_hub.get_scalar('train/loss').current())


@pytest.mark.slow
@pytest.mark.usefixtures('data', 'quick')
def test_what_a_search_finds_trains(tmp_path):
    """The exported config, a step on synthetic images."""
    cfg = Config.fromfile(LEAVES['maedet_search_gfl_coco'])
    cfg.work_dir = str(tmp_path / 'search')
    cfg.search.strategy.update(candidates=1000, proof=None)
    cfg.search.budget.generations = 2
    job, best = run(cfg)
    path = tmp_path / 'search' / json.loads((tmp_path / 'search/best.json').read_text())[0]['config']
    runner = one_step.train(one_step.cut_down(Config.fromfile(path), tmp_path / 'train'))
    assert runner.iter == 1 and runner.model.backbone.arch == job.space.parse(best[0].arch)
    assert math.isfinite(runner.message_hub.get_scalar('train/loss').current())
