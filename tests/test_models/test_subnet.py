"""A net cut out of a supernet is the supernet on that path, to the last bit."""

import numpy as np
import pytest
import torch
from torch import nn

from detnas_mm.models import DetNASNet, DetNASSupernet
from detnas_mm.models.subnet import extract_subnet, max_difference, slice_state_dict
from detnas_mm.registry import MODELS


@pytest.mark.parametrize('split', ['shuffle', 'even_odd'])
@pytest.mark.parametrize('seed', range(3))
def test_outputs_are_equal_to_the_last_bit(tiny, images, randomise, split, seed):
    supernet = randomise(DetNASSupernet(tiny, channel_split=split, with_last_conv=True), seed)
    path = supernet.space.sample(np.random.default_rng(seed))
    net = extract_subnet(supernet, path)
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
    net = extract_subnet(supernet, path)
    with torch.no_grad():
        net.blocks[3].main[0].bn.running_mean += 0.5
    assert max_difference(supernet, net, path, images) > 1e-3
    other = extract_subnet(supernet, supernet.space.parse('01|20'))
    assert max_difference(supernet, other, path, images) > 1e-3
    dealt = DetNASNet('01|23', space=tiny, channel_split='even_odd')
    dealt.load_state_dict(extract_subnet(supernet, path).state_dict())
    assert max_difference(supernet, dealt, path, images) > 1e-3


def test_a_net_keeps_the_supernets_options(tiny):
    options = dict(out_indices=(1,), frozen_stages=0, norm_eval=True, with_cp=True, norm_cfg=dict(type='SyncBN'))
    supernet = DetNASSupernet(tiny, with_last_conv=True, **options)
    cfg = supernet.subnet_cfg(supernet.space.parse('01|23'))
    net = MODELS.build(cfg)
    assert {k: getattr(net, k) for k in options} == options
    assert net.last_conv is not None and net.space.spec() == supernet.space.spec()
    with torch.device('meta'):
        small = DetNASSupernet('small')
    assert small.subnet_cfg(small.space.parse([0] * 20))['space'] == 'small'


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
