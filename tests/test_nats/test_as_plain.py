"""Dilated nets and supernets behave as the plain backbone: checkpoints, frozen layers, recomputation."""

import copy

import pytest
import torch
from torch import nn

from detnas_mm.errors import DetNASError
from detnas_mm.registry import MODELS
from detnas_mm.systems.nats import DilationSpace
from detnas_mm.systems.nats.optim import alphas
from tests.test_nats.nets import build, cfg_of, images, relative, rng

R50 = dict(type='mmdet.ResNet', depth=50, style='pytorch')
#: Backbones of published checkpoints, and the layout of these: prefix of the keys, further keys, keys that are missing.
LAYOUTS = {
    # mmpretrain: a whole classifier in a checkpoint of mmengine
    'mmpretrain': (
        dict(type='mmpretrain.ResNet', depth=50, out_indices=(0, 1, 2, 3)), 'backbone.', ['head.fc.weight'], ''
    ),
    'mmpretrain in mmdet': (R50, 'backbone.', ['head.fc.weight', 'head.fc.bias'], ''),
    # open-mmlab://resnext101_32x4d, regnetx_400mf and the like: backbones as mmdet names them, with torchvision's head
    'open-mmlab': (dict(type='mmdet.ResNeXt', depth=50, groups=32, base_width=4), '', ['fc.weight', 'fc.bias'], ''),
    'open-mmlab, parallel': (
        dict(type='mmdet.RegNet', arch='regnetx_400mf'), 'module.', ['module.fc.weight', 'module.fc.bias'], ''
    ),
    # open-mmlab://detectron2/resnet50_caffe: frozen BN without counters of batches, no head
    'caffe': (
        dict(type='mmdet.ResNet', depth=50, style='caffe', norm_cfg=dict(type='BN', requires_grad=False)), '', [],
        'num_batches_tracked',
    ),
}  # fmt: skip


def kinds(cfg, **settings):
    """The dilated net and both supernets of a plain backbone's config."""
    space = DilationSpace(cfg)
    fixed = space.configure(dict(model=dict(backbone=cfg)), space.sample(rng()))['model']['backbone']
    supernet = dict(cfg, type='detnas_mm.DilatedSupernet', plain=cfg['type'], **settings)
    return [fixed, supernet, dict(supernet, mixture=True)]


def modes(net):
    """Frozen parameters and norms by name, without those of this package."""
    parameters = {name: one.requires_grad for name, one in net.named_parameters() if not name.endswith('.alpha')}
    norms = {name: one.training for name, one in net.named_modules() if isinstance(one, nn.BatchNorm2d)}
    return parameters, norms


@pytest.mark.parametrize('number', range(3))
def test_a_checkpoint_of_torchvision_is_loaded_whole(tmp_path, number):
    """By init_cfg, as users load it: every tensor of the file but the classifier's, and α stays as it was."""
    torchvision = pytest.importorskip('torchvision')
    state = torchvision.models.resnet50(weights=None).state_dict()
    torch.save(state, tmp_path / 'resnet50.pth')
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'resnet50.pth'))
    net = MODELS.build(dict(kinds(R50)[number], init_cfg=init))
    net.init_weights()
    own = net.state_dict()
    extra = {key for key in own if key not in state}
    assert all(key.endswith('.alpha') for key in extra) and len(extra) == (13 if number == 2 else 0)
    assert {key for key in state if key not in own} == {'fc.weight', 'fc.bias'}
    assert all(torch.equal(own[key], state[key]) for key in own.keys() - extra)
    assert not any(one.detach().any() for one in alphas(net).values())


@pytest.mark.parametrize('number', range(3))
@pytest.mark.parametrize('layout', LAYOUTS)
def test_checkpoints_in_other_layouts_are_loaded_whole(tmp_path, layout, number):
    """By init_cfg; every key is accounted for: loaded, of the classifier, or a counter that the file does not have."""
    cfg, prefix, head, missing = LAYOUTS[layout]
    own_prefix = (
        None if prefix == 'module.' else prefix or None
    )  # mmengine removes the prefix of parallel training itself
    draw = torch.Generator().manual_seed(0)
    plain = {
        key: torch.rand(value.shape, generator=draw) if value.is_floating_point() else value + 7
        for key, value in MODELS.build(copy.deepcopy(cfg)).state_dict().items()
        if not (missing and key.endswith(missing))
    }
    state = {prefix + key: value for key, value in plain.items()} | {key: torch.zeros(2) for key in head}
    torch.save(dict(meta={}, state_dict=state), tmp_path / 'file.pth')
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'file.pth'), prefix=own_prefix)
    net = MODELS.build(dict(kinds(cfg)[number], init_cfg=init))
    net.init_weights()
    own = net.state_dict()
    assert {key for key in state if key.removeprefix(prefix) not in own} == set(head)
    others = own.keys() - plain.keys()
    assert all(key.endswith('.alpha') or (missing and key.endswith(missing)) for key in others)
    assert all(torch.equal(own[key], value) for key, value in plain.items())
    assert not any(one.detach().any() for one in alphas(net).values())


@pytest.mark.parametrize('name', ['resnet_pytorch', 'resnext', 'mmpretrain_resnet'])
@pytest.mark.parametrize(
    'settings', [dict(frozen_stages=1, norm_eval=True), dict(frozen_stages=-1, norm_eval=False), dict(frozen_stages=0)]
)
def test_what_is_frozen_is_the_plain_nets(name, settings):
    cfg = dict(cfg_of(name), **settings)
    plain = MODELS.build(copy.deepcopy(cfg))
    plain.train()
    for other in kinds(cfg):
        net = MODELS.build(copy.deepcopy(other))
        net.train()
        assert modes(net) == modes(plain)


def test_norms_over_all_gpus_stay_where_the_plain_net_has_them():
    cfg = dict(cfg_of('resnet_pytorch'), norm_cfg=dict(type='SyncBN', requires_grad=True))
    counts = [
        sum(isinstance(module, nn.SyncBatchNorm) for module in MODELS.build(one).modules())
        for one in (cfg, *kinds(cfg))
    ]
    assert counts == [53] * 4


def test_a_searched_layer_that_is_frozen_is_refused():
    cfg = dict(cfg_of('resnet_pytorch'), frozen_stages=2)
    fixed, *supernets = kinds(cfg)
    MODELS.build(fixed)  # training a found net with frozen stages is the user's choice
    for other in supernets:
        with pytest.raises(DetNASError, match=r'layer2\.0\.conv2 is searched but frozen \(frozen_stages\)'):
            MODELS.build(other)


@pytest.mark.parametrize('number', range(3))
def test_recomputed_activations_give_the_same_gradients(number):
    """``with_cp`` of the plain class; norms in evaluation mode, since mmdet's updates their statistics twice."""
    found = []
    for with_cp in (False, True):
        cfg = dict(cfg_of('resnet_pytorch'), with_cp=with_cp)
        net = MODELS.build(copy.deepcopy(kinds(cfg)[number]))
        net.load_state_dict(build(cfg_of('resnet_pytorch')).state_dict(), strict=False)
        net.eval()
        if number == 1:
            net.set_path(net.space.sample(rng()))
        x = images().requires_grad_()
        sum(out.square().mean() for out in net(x)).backward()
        found.append([x.grad, *(one.grad for one in net.parameters())])
    assert len(found[0]) > 100
    assert relative(found[1], found[0]) < 1e-5


def test_padding_other_than_zeros_is_refused():
    net = MODELS.build(cfg_of('resnet_pytorch'))
    net.layer2[1].conv2.padding_mode = 'circular'
    from detnas_mm.systems.nats.plain import _find_convs

    with pytest.raises(DetNASError, match=r"layer2\.1\.conv2 pads by 'circular'"):
        _find_convs(net, None)
