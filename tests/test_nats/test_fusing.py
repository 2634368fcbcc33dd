"""Blocks that merge their branches for deployment keep their dilations, or are refused."""

import copy
import pickle

import pytest
import torch

from detnas_mm.errors import DetNASError
from detnas_mm.registry import MODELS
from detnas_mm.systems.nats import DilatedConv2d, DilationSpace, channel_order
from tests.test_nats.nets import outputs, randomize, relative, rng

ARCH = dict(num_blocks=[2, 2, 1, 1], width_factor=[0.25] * 4, group_layer_map={2: 2, 4: 4}, se_cfg=None)
REPVGG = dict(type='mmpretrain.RepVGG', arch=ARCH, out_indices=(0, 1, 2, 3), dilations=(1, 1, 1, 2))
MOBILEONE = dict(type='mmpretrain.MobileOne', arch='s0', out_indices=(0, 1, 2, 3))


def dilated(space, arch, **settings):
    cfg = space.configure(dict(model=dict(backbone=dict(REPVGG, **settings))), arch)['model']['backbone']
    return cfg, randomize(MODELS.build(copy.deepcopy(cfg)))


@torch.no_grad()
def test_a_merged_repvgg_computes_what_it_did(monkeypatch):
    space = DilationSpace(REPVGG, preset='ic-conv', genotypes=2)
    assert {conv.groups for conv in space.convs} == {1, 2, 4}
    arch = space.sample(rng())
    _, net = dilated(space, arch)
    before, unmerged = outputs(net), pickle.loads(pickle.dumps(copy.deepcopy(net)))
    net.switch_to_deploy()
    net.switch_to_deploy()  # merges nothing a second time
    assert relative(outputs(net), before) < 1e-5
    merged = [module for module in net.modules() if type(module) is DilatedConv2d]
    assert len(merged) == len(space.convs) == 6 and all(module.bias is not None for module in merged)
    assert all(torch.equal(a, b) for a, b in zip(outputs(unmerged), before, strict=True))
    unmerged.stage_2[0].switch_to_deploy()  # a copy merges its own branches
    assert relative(outputs(unmerged), before) < 1e-5
    # its checkpoint loads into the net that is built merged, without a warning of other dilations
    said = []
    monkeypatch.setattr(channel_order, 'print_log', lambda text, **_: said.append(text))
    _, again = dilated(DilationSpace(dict(REPVGG, deploy=True), preset='ic-conv', genotypes=2), arch, deploy=True)
    again.load_state_dict(net.state_dict())
    assert relative(outputs(again), before) < 1e-5 and not said
    merged[0].plan = type(merged[0].plan)(merged[0], [(1, 1)] * space.convs[0].units)
    assert relative(outputs(net), before) > 1e-3  # the test sees one convolution without its dilations


def test_supernets_are_not_merged():
    for settings in (dict(type='detnas_mm.DilatedSupernet'), dict(type='detnas_mm.EnlargedBackbone', d_max=2)):
        net = MODELS.build(dict(REPVGG, plain=REPVGG['type'], **settings))
        with pytest.raises(DetNASError, match=r'^stage_\d\.0: switch_to_deploy: stage_\d\.0\.branch_3x3\.conv has '):
            net.switch_to_deploy()


def test_blocks_with_several_branches_are_refused():
    with pytest.raises(DetNASError, match=r'^stage0\.branch_conv_list\.0\.conv is one of .* MobileOneBlock .*deploy='):
        DilationSpace(MOBILEONE)
    found = DilationSpace(dict(MOBILEONE, deploy=True))
    assert {conv.name.rpartition('.')[2] for conv in found.convs} == {'branch_reparam'}
