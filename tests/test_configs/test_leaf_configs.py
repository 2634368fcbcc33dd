"""Every config loads, builds, and is what its name says."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from detnas_mm.engine import launch
from detnas_mm.engine.config import fit_to_machine
from detnas_mm.engine.export import Exporter
from detnas_mm.systems.detnas import DetNASNet, DetNASSpace, DetNASSupernet

from .leaves import DETNAS, LEAVES, NETS, SEARCHES, SUPERNETS

SPACES = {'small': 'small', 'large': 'large', 'large-3800m': 'large-3.8g', 'digits': None}
METRICS = {'coco': 'coco/bbox_mAP', 'voc': 'pascal_voc/mAP', 'imagenet': 'accuracy/top1'}
CLASSES = {'coco': 80, 'voc': 20, 'imagenet': 1000, 'digits': 10}


def parts(name):
    """(space, data) as a config's name has them: detnas-<space>_<what>_<task>[_<data>]."""
    space = name.split('_')[0].removeprefix('detnas-')
    return space, 'digits' if space == 'digits' else name.split('_')[-1]


def heads(model):
    return model.roi_head.bbox_head if hasattr(model, 'roi_head') else getattr(model, 'bbox_head', None) or model.head


@pytest.mark.parametrize('name', DETNAS)
def test_builds(name, load):
    """The model builds, with the space and the number of classes of its name, and its parts match."""
    cfg = load(name)
    assert 'custom_imports' not in cfg
    cfg = fit_to_machine(cfg)
    cfg.model.backbone.pop('init_cfg', None)
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert type(model.backbone) is (DetNASNet if name in NETS else DetNASSupernet)
    space, data = parts(name)
    if SPACES[space]:
        assert model.backbone.space.spec() == DetNASSpace(SPACES[space]).spec()
    assert heads(model).num_classes == CLASSES[data]
    if cfg.default_scope == 'mmdet':
        channels = [model.backbone.space.channels[i] for i in model.backbone.out_indices]
        assert cfg.model.neck.in_channels == channels
    else:
        assert model.head.in_channels == model.backbone.space.last_channels


@pytest.mark.parametrize('name', SUPERNETS)
def test_supernet(name, load):
    cfg = load(name)
    assert any(hook.type == 'detnas_mm.PathSamplingHook' for hook in cfg.custom_hooks)
    assert cfg.find_unused_parameters  # DistributedDataParallel must expect idle choices
    for kind in ('val', 'test'):
        assert cfg.get(f'{kind}_dataloader') is cfg.get(f'{kind}_evaluator') is cfg.get(f'{kind}_cfg') is None


@pytest.mark.parametrize('name', NETS)
def test_net(name, load):
    cfg = load(name)
    assert not cfg.get('find_unused_parameters')
    assert cfg.test_dataloader and cfg.test_evaluator and cfg.test_cfg


@pytest.mark.parametrize('name', SEARCHES)
def test_search(name, load):
    """The section builds, agrees with the model, and the job is one that searches and trains nothing."""
    cfg = load(name)
    job = launch.search_job(cfg, 'supernet.pth')
    assert job.evaluator.needs_model
    assert job.space.spec() == DetNASSpace(cfg.model.backbone.space).spec()
    section = cfg.search
    if parts(name)[1] != 'digits':
        assert section.objectives[0].name == METRICS[parts(name)[1]]
    evaluator = section.evaluator
    assert 'search_val' in repr(evaluator.dataloader.dataset) and 'search_val' not in repr(cfg.train_dataloader)
    assert 'search_val' not in repr(evaluator.calibration), 'BN is recalibrated on training images'
    assert 'Flip' not in repr(evaluator), 'nothing random may stand in a pipeline of the evaluator'
    assert cfg.model.backbone.get('init_cfg') is None, 'the checkpoint of the search holds all weights'
    training = Exporter(job).training
    space, _, rest = name.split('_', 2)
    assert job.export.config == f'detnas_mm::{LEAVES[name].parent.name}/{space}_net_{rest}.py'
    for key in ('train_dataloader', 'test_dataloader', 'test_evaluator', 'train_cfg', 'param_scheduler'):
        assert training[key] and training[key] == load(f'{space}_net_{rest}')[key], key
    only = launch.search_only(job.cfg)
    for key in ('train_cfg', 'param_scheduler', 'custom_hooks', 'default_hooks'):
        assert only[key] == cfg[key], f'{key} is not that of a search-only job'


def test_the_large_space_has_what_the_small_one_has():
    """Except published nets, and the MAC bins of the authors' ImageNet script, which no large path meets."""
    kinds = {
        space: {rest for name in DETNAS for rest in [name.removeprefix(f'detnas-{space}_')] if rest != name}
        for space in ('small', 'large')
    }
    missing = kinds['small'] - kinds['large']
    assert {rest.split('_')[0] for rest in missing} == {
        'supernet-macbins', 'coco-fpn-300m', 'coco-retinanet-300m', 'clsnasnet-300m'
    }  # fmt: skip
    assert {rest.split('_')[0] for rest in kinds['large'] - kinds['small']} == {'coco-fpn-1300m'}
