"""The published detectors: what is built of their parts has the published number of parameters."""

import pytest
import torch
from mmengine.config import Config
from torch import nn

from detnas_mm import zoo
from detnas_mm.cost.count import count_macs, count_params
from detnas_mm.errors import DetNASError
from detnas_mm.models import GroupNorm, StandardizedConv2d, build_model, without_memory
from detnas_mm.systems.sm_nas import SMNASBackbone

NAMES = [name for name, net in zoo.nets().items() if type(net).__name__ == 'PublishedDetector']
#: Millions of parameters as published.
PUBLISHED = {'smnas-e0': 16.23, 'smnas-e3': 52.05}


@pytest.fixture(scope='module', params=NAMES)
def built(request):
    """(entry, config, model without memory)."""
    net = zoo.get(request.param)
    cfg = Config.fromfile(net.config.replace('detnas_mm::', 'configs/'))
    with without_memory():
        return net, cfg, build_model(cfg)


def test_the_known_ones_are_there(tmp_path):
    assert set(NAMES) == set(PUBLISHED) and all('unconfirmed' in zoo.get(name).source for name in NAMES)
    (tmp_path / 'mine.py').write_text(f"_base_ = '{zoo.get('smnas-e0').config}'")
    inherited = Config.fromfile(tmp_path / 'mine.py')
    assert inherited.model.backbone.code == '1-21-21-12'
    with pytest.raises(DetNASError, match="'smnas-e0' is a whole detector.*_base_ = 'detnas_mm::sm_nas/smnas-e0_fpn"):
        zoo.get('smnas-e0').architecture()


def test_parameters_are_those_published(built):
    net, _, model = built
    assert count_params(model) == net.detector_params
    assert round(net.detector_params / 1e6, 2) == PUBLISHED[net.name] == net.reported[0]


def test_totals_are_counted_on_the_built_net(built):
    net, cfg, model = built
    assert type(model.backbone) is SMNASBackbone
    assert {key: cfg.model.backbone[key] for key in ('code', 'base', 'block')} == net.backbone
    assert (count_params(model.backbone), count_macs(model.backbone, net.input_size)) == (net.params, net.macs)


def test_they_are_what_the_reference_says(built):
    net, cfg, model = built
    e3 = net.name == 'smnas-e3'
    strides = [4, 8, 16, 32, 64][0 if e3 else 1 :]
    assert model.neck.num_outs == len(strides) and model.neck.add_extra_convs is False
    assert model.rpn_head.prior_generator.strides == [(stride, stride) for stride in strides]
    assert set(model.rpn_head.prior_generator.num_base_priors) == {3}
    assert tuple(model.neck.in_channels) == model.backbone.channels and model.neck.out_channels == 128
    extractor = model.roi_head.bbox_roi_extractor
    for one in extractor if e3 else [extractor]:
        assert one.featmap_strides == strides[:-1] and one.finest_scale == 14 * strides[0]
    heads = list(model.roi_head.bbox_head) if e3 else [model.roi_head.bbox_head]
    assert [head.reg_class_agnostic for head in heads] == ([True] * 3 if e3 else [False])
    assert {head.num_classes for head in heads} == {80}
    groups = {m.num_groups for m in model.backbone.modules() if isinstance(m, nn.GroupNorm)}
    assert groups == {model.backbone.base // 2}
    assert {m.num_groups for m in model.neck.modules() if isinstance(m, nn.GroupNorm)} == {32}
    for part in (model.backbone, model.neck):
        norms = [m for m in part.modules() if isinstance(m, nn.GroupNorm)]
        convs = [m for m in part.modules() if isinstance(m, nn.Conv2d)]
        assert len(norms) == len(convs) and {type(m) for m in norms} == {GroupNorm}
        assert {type(m) for m in convs} == {StandardizedConv2d}
    if e3:
        cascade = cfg.model.train_cfg.rcnn
        assert [one.assigner.pos_iou_thr for one in cascade] == [0.5, 0.6, 0.7]
        assert [one.sampler.num for one in cascade] == [384] * 3
        assert tuple(cfg.model.roi_head.stage_loss_weights) == (1, 0.5, 0.25)


def test_schedule_and_sizes(built):
    net, cfg, model = built
    height, width = net.input_size
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        (resize,) = [step for step in loader.dataset.pipeline if step.type == 'Resize']
        assert tuple(resize.scale) == (width, height) and resize.keep_ratio
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.momentum, optimizer.nesterov, optimizer.weight_decay) == (0.02, 0.9, True, 1e-4)
    warmup, steps = cfg.param_scheduler
    assert (warmup.start_factor, warmup.end) == (0.33, 500)
    assert [m / 7330 for m in steps.milestones] == [8, 11] and cfg.train_cfg.max_iters == 12 * 7330
    assert all(p.requires_grad for p in model.parameters())


def test_norms_are_not_decayed():
    from mmengine.optim import build_optim_wrapper

    cfg = Config.fromfile('configs/sm_nas/smnas-e0_fpn_coco.py')
    model = nn.ModuleDict(dict(conv=StandardizedConv2d(8, 8, 3), gn=GroupNorm(8)))
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    decay = {id(p): group['weight_decay'] for group in groups for p in group['params']}
    assert {decay[id(p)] for p in model['gn'].parameters()} == {0.0} and decay[id(model['conv'].weight)] == 1e-4
    assert torch.is_tensor(model['gn'].weight)
