"""Fusing, tracing and pickling by other libraries leave the outputs of a dilated net unchanged."""

import copy
import pickle

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.model.efficient_conv_bn_eval import turn_on_efficient_conv_bn_eval

from detnas_mm.registry import MODELS
from detnas_mm.systems.nats import DilatedConv2d, DilationSpace
from tests.test_nats.nets import cfg_of, images, outputs, randomize, relative, rng

NAMES = ['resnet_pytorch', 'resnet_caffe', 'resnext', 'regnet', 'mmpretrain_resnet', 'basic_blocks']


def dilated(name, preset='nats'):
    space = DilationSpace(cfg_of(name), preset=preset)
    cfg = space.configure(dict(model=dict(backbone=cfg_of(name))), space.sample(rng()))['model']['backbone']
    return randomize(MODELS.build(cfg))


def searched(net):
    return [module for module in net.modules() if type(module) is DilatedConv2d]


@pytest.mark.parametrize('name', NAMES)
def test_norms_are_fused_into_dilated_convolutions(name):
    net = dilated(name)
    before = outputs(net)
    fused = fuse_conv_bn(copy.deepcopy(net))
    assert relative(outputs(fused), before) < 1e-5
    assert len(searched(fused)) == len(searched(net))
    assert all(conv.bias is not None for conv in searched(fused))  # each took its norm in
    searched(fused)[0].bias.data += 1.0
    assert relative(outputs(fused), before) > 1e-3


@pytest.mark.parametrize('name', NAMES)
def test_efficient_evaluation_of_norms(name):
    net = dilated(name)
    before, holder = outputs(net), torch.nn.Module()
    holder.backbone = copy.deepcopy(net)
    turn_on_efficient_conv_bn_eval(holder, ['backbone'])
    runs = []
    for conv in searched(holder.backbone):
        conv.register_forward_hook(lambda *_: runs.append('as a module'))
    assert relative(outputs(holder.backbone), before) < 1e-5
    assert not runs  # with the norm's weights instead
    conv = searched(holder.backbone)[0]
    conv.weight.data += 1.0
    assert relative(outputs(holder.backbone), before) > 1e-3


@pytest.mark.parametrize('name', NAMES)
def test_a_net_is_traced_with_its_convolutions_whole(name):
    net = dilated(name)
    traced = torch.fx.symbolic_trace(net)
    assert all(torch.equal(a, b) for a, b in zip(traced(images()), outputs(net), strict=True))
    steps = {node.target for node in traced.graph.nodes if node.op == 'call_module'}
    assert {key for key, module in net.named_modules() if type(module) is DilatedConv2d} <= steps
    again = pickle.loads(pickle.dumps(net))
    assert all(torch.equal(a, b) for a, b in zip(outputs(again), outputs(net), strict=True))
    assert type(searched(again)[0]) is DilatedConv2d and len(searched(again)) == len(searched(net))
