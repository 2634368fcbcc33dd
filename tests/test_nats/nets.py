"""Small backbones of many kinds, with norms that do not hide what convolutions compute."""

import copy

import numpy as np
import torch
from torch import nn

from detnas_mm.registry import MODELS

#: Backbones by name; the first ones are those that the exactness of the system is stated for.
BACKBONES = {
    'resnet_pytorch': dict(type='mmdet.ResNet', depth=50, base_channels=8, norm_eval=False, frozen_stages=-1),
    'resnet_caffe': dict(type='mmdet.ResNet', depth=50, base_channels=8, style='caffe', deep_stem=True),
    'resnext': dict(type='mmdet.ResNeXt', depth=50, groups=8, base_width=4, frozen_stages=1),
    'regnet': dict(
        type='mmdet.RegNet', arch=dict(w0=24, wa=24.48, wm=2.54, group_w=8, depth=16, bot_mul=1.0), frozen_stages=-1
    ),
    'res2net': dict(type='mmdet.Res2Net', depth=50, scales=4, base_width=13, base_channels=32),
    'mmpretrain_resnet': dict(type='mmpretrain.ResNet', depth=50, base_channels=16, out_indices=(0, 1, 2, 3)),
    'basic_blocks': dict(type='mmdet.ResNet', depth=18, base_channels=16),
    'depthwise': dict(type='mmdet.MobileNetV2', widen_factor=0.25),
    'darknet': dict(type='mmdet.CSPDarknet', widen_factor=0.125, deepen_factor=0.33),
    'dilated_c5': dict(
        type='mmdet.ResNet', depth=50, base_channels=8, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)
    ),
}  # fmt: skip


def cfg_of(name):
    return copy.deepcopy(BACKBONES[name])


def build(cfg, seed=0):
    """A backbone in evaluation mode whose norms have random weights, biases and statistics."""
    torch.manual_seed(seed)
    return randomize(MODELS.build(copy.deepcopy(cfg)), seed)


@torch.no_grad()
def randomize(net, seed=0):
    """Draws weights of all convolutions and everything of all norms; a fresh ResNet would ignore its 3×3 ones."""
    draw = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            fan = module.weight[0].numel()
            module.weight.copy_(torch.randn(module.weight.shape, generator=draw) * fan**-0.5)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.copy_(0.5 + torch.rand(module.weight.shape, generator=draw))
            for tensor in (module.bias, module.running_mean):
                tensor.copy_(0.3 * torch.randn(tensor.shape, generator=draw))
            module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=draw))
    net.eval()
    return net


def images(channels=3, side=96, seed=1):
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def outputs(net, x=None):
    return tuple(net(images() if x is None else x))


def relative(ours, theirs):
    """Largest difference, relative to the largest value of each output."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True))


def rng(seed=0):
    return np.random.default_rng(seed)
