"""A net cut out of a supernet is the supernet on that path, to the last bit."""

import numpy as np
import pytest
import torch
from torch import nn

from detnas_mm.models.subnet import extract_subnet, max_difference, slice_state_dict
from detnas_mm.models.supernet import Segment, Supernet
from detnas_mm.registry import MODELS
from detnas_mm.spaces import Architecture
from detnas_mm.systems.detnas import DetNASNet, DetNASSpace, DetNASSupernet
from detnas_mm.testing.toy import ToySpace


@pytest.mark.parametrize('split', ['shuffle', 'even_odd'])
@pytest.mark.parametrize('seed', range(3))
def test_outputs_are_equal_to_the_last_bit(tiny, images, randomise, split, seed):
    backbone = dict(space=tiny, channel_split=split, with_last_conv=True)
    supernet = randomise(DetNASSupernet(**backbone), seed)
    path = supernet.space.sample(np.random.default_rng(seed))
    net = extract_subnet(supernet, path, backbone)
    assert isinstance(net, DetNASNet) and net.arch == path and net.channel_split == split
    supernet.set_path('00|00')
    assert max_difference(supernet, net, path, images) == 0.0
    assert supernet.active_path == supernet.space.parse('00|00') and supernet.training and net.training

    # written out, without the function under test
    supernet.set_path(path)
    supernet.eval(), net.eval()
    outs = supernet(images)
    assert len(outs) == 3 and all(torch.equal(a, b) for a, b in zip(outs, net(images), strict=True))
    assert all(out.abs().sum() > 0 for out in outs)


def test_a_difference_is_seen(tiny, images, randomise):
    supernet = randomise(DetNASSupernet(tiny))
    path = supernet.space.parse('01|23')
    net = extract_subnet(supernet, path, dict(space=tiny))
    with torch.no_grad():
        net.blocks[3].main[0].bn.running_mean += 0.5
    assert max_difference(supernet, net, path, images) > 1e-3
    other = extract_subnet(supernet, supernet.space.parse('01|20'), dict(space=tiny))
    assert max_difference(supernet, other, path, images) > 1e-3
    dealt = DetNASNet('01|23', space=tiny, channel_split='even_odd')
    dealt.load_state_dict(extract_subnet(supernet, path, dict(space=tiny)).state_dict())
    assert max_difference(supernet, dealt, path, images) > 1e-3


def test_a_net_keeps_the_supernets_options(tiny):
    options = dict(out_indices=(1,), frozen_stages=0, norm_eval=True, with_cp=True, norm_cfg=dict(type='SyncBN'))
    backbone = dict(type='DetNASSupernet', space=tiny, with_last_conv=True, **options)
    space, cfg = DetNASSpace(tiny), dict(model=dict(backbone=backbone))
    net = MODELS.build(space.configure(cfg, space.parse('01|23'))['model']['backbone'])
    assert {k: getattr(net, k) for k in options} == options
    assert net.last_conv is not None and net.space.spec() == space.spec()
    small = DetNASSpace('small')
    assert small.configure({}, small.parse([0] * 20))['model']['backbone']['space'] == 'small'


def test_slicing_a_whole_model_keeps_the_rest(tiny, randomise):
    def model(backbone):
        return nn.ModuleDict(dict(backbone=backbone, blocks=nn.ModuleList([nn.ModuleList([nn.Linear(2, 2)])])))

    whole = randomise(model(DetNASSupernet(tiny)))
    path = whole['backbone'].space.parse('32|10')
    sliced = slice_state_dict(whole.state_dict(), path, DetNASSupernet, prefix='backbone.')
    target = model(DetNASNet(path, space=tiny))
    target.load_state_dict(sliced, strict=True)
    assert torch.equal(sliced['blocks.0.0.weight'], whole['blocks'][0][0].weight)  # not the backbone's, so kept
    assert torch.equal(
        sliced['backbone.blocks.0.main.0.conv.weight'], whole['backbone'].blocks[0][3].main[0].conv.weight
    )


def test_sliced_weights_are_copies(tiny, randomise):
    supernet = randomise(DetNASSupernet(tiny))
    sliced = slice_state_dict(supernet.state_dict(), supernet.space.parse('00|00'), supernet)
    before = sliced['stem.conv.weight'].clone()
    with torch.no_grad():
        supernet.stem.conv.weight.zero_()
    assert torch.equal(sliced['stem.conv.weight'], before) and before.abs().sum() > 0
    assert not any(value.requires_grad for value in sliced.values())


@pytest.mark.parametrize('prefix', ['backbone.', 'backbone'])
@pytest.mark.parametrize('path', ['32|10', [3, 2, 1, 0]])
def test_paths_as_people_write_them(tiny, randomise, prefix, path):
    whole = nn.ModuleDict(dict(backbone=randomise(DetNASSupernet(tiny)), head=nn.Linear(2, 2)))
    supernet = whole['backbone']
    arch = supernet.space.parse('32|10')
    wanted = slice_state_dict(whole.state_dict(), arch, DetNASSupernet, 'backbone.')
    got = slice_state_dict(whole.state_dict(), path, supernet, prefix)
    assert len(got) < len(whole.state_dict()) and list(got) == list(wanted)
    assert all(torch.equal(got[key], value) for key, value in wanted.items())
    assert extract_subnet(supernet, path, dict(space=tiny)).arch == arch
    with pytest.raises(ValueError, match='DetNASSupernet is a class and has no space to parse'):
        slice_state_dict(whole.state_dict(), path, DetNASSupernet, prefix)


@pytest.mark.parametrize('prefix', ['', 'neck.', 'back', 'backbone.stem'])
@pytest.mark.parametrize('by_class', [False, True])
def test_nothing_under_the_prefix(tiny, prefix, by_class):
    whole = nn.ModuleDict(dict(backbone=DetNASSupernet(tiny), head=nn.Linear(2, 2)))
    supernet = DetNASSupernet if by_class else whole['backbone']
    with pytest.raises(ValueError, match=f"Under the prefix '{prefix}.*no weights of the path .*: backbone.stem"):
        slice_state_dict(whole.state_dict(), whole['backbone'].space.parse('00|00'), supernet, prefix)


@pytest.mark.parametrize('genes', [(0, 0, 0), (0, 0, 0, 0, 0), (0, 0, 0, 4)])
def test_a_path_of_another_space(tiny, genes):
    supernet = DetNASSupernet(tiny)
    with pytest.raises(ValueError, match='no weights of the path'):
        slice_state_dict(supernet.state_dict(), Architecture(genes), DetNASSupernet)
    with pytest.raises(ValueError):
        slice_state_dict(supernet.state_dict(), Architecture(genes), supernet)
    with pytest.raises(ValueError):
        extract_subnet(supernet, Architecture(genes), dict(space=tiny))


class KeepsKeys(Supernet):
    """Its fixed net has all of its keys: a path says how far they dilate, not which of them there are."""

    def __init__(self):
        super().__init__()
        self.space, self.conv = ToySpace(1, 3), nn.Conv2d(3, 2, 3)

    def forward(self, x):
        return (nn.functional.conv2d(x, self.conv.weight, self.conv.bias, dilation=1 + self.active_path.genes[0]),)

    def segments(self, path):
        return [Segment(path.genes, self, True)]

    @staticmethod
    def subnet_key(key, path):
        return key


class KnowsItsKeys(KeepsKeys):
    @classmethod
    def has_path(cls, keys, path):
        return {'conv.weight', 'conv.bias'} <= set(keys)


class HasNone(KnowsItsKeys):
    @staticmethod
    def subnet_key(key, path):
        return None


class ReturnsNone(DetNASNet):
    """As mmdet's ResNet does in ``train``, and so in ``eval``."""

    def train(self, mode=True):
        super().train(mode)


def test_nets_whose_train_returns_nothing(tiny, images, randomise, monkeypatch):
    supernet = randomise(DetNASSupernet(tiny)).eval()
    path = supernet.space.parse('01|23')
    monkeypatch.setattr('detnas_mm.models.subnet.MODELS.build', lambda cfg: ReturnsNone(path, space=tiny))
    net = extract_subnet(supernet, path, dict(space=tiny))
    assert isinstance(net, ReturnsNone) and not net.training and not net.stem.training
    net.stem.train()
    assert max_difference(supernet, net, path, images) == 0.0
    assert net.stem.training and not net.training


@pytest.mark.parametrize('by_class', [False, True])
def test_a_supernet_may_say_that_its_keys_stay_as_they_are(by_class):
    whole = nn.ModuleDict(dict(backbone=KnowsItsKeys(), head=nn.Linear(2, 2)))
    supernet, path = KnowsItsKeys if by_class else whole['backbone'], whole['backbone'].space.parse('2')
    state = whole.state_dict()
    sliced = slice_state_dict(state, path, supernet, 'backbone')
    assert sliced.keys() == state.keys() and all(torch.equal(sliced[key], value) for key, value in state.items())
    for prefix in ('', 'neck.', 'back', 'head', 'backbone.conv'):
        with pytest.raises(ValueError, match=f"Under the prefix '{prefix}.*no weights of the path"):
            slice_state_dict(state, path, supernet, prefix)


@pytest.mark.parametrize('kind', [KeepsKeys, HasNone])
def test_of_others_some_key_must_change_and_some_weight_be_left(kind):
    supernet = kind()
    with pytest.raises(ValueError, match='no weights of the path'):
        slice_state_dict(supernet.state_dict(), supernet.space.parse('2'), supernet)
