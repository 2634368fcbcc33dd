"""The backbone of MAE-DET: shapes at any size, options, and use inside OpenMMLab's models."""

import pytest
import torch
from torch import nn

from detnas_mm.errors import DetNASError
from detnas_mm.systems.mae_det import MAEDetNet
from detnas_mm.systems.mae_det.structure import read_structure, to_dicts

TINY = '8k3s2|8k5s2x2b8|16k3s2x1b8|16k3s1x2b8|24k3s2x1b16'


@pytest.mark.parametrize('size', [(64, 64), (75, 53), (33, 100), (1, 1), (50, 84)])
def test_any_input_size(size):
    net = MAEDetNet(TINY).eval()
    maps = net(torch.zeros(2, 3, *size))
    sizes = [tuple(-(-side // stride) for side in size) for stride in (4, 8, 16)]
    assert [tuple(m.shape) for m in maps] == [(2, c, *s) for c, s in zip((8, 16, 24), sizes, strict=True)]
    assert net.channels == (8, 16, 24)


def test_the_pool_counts_no_padding_and_is_the_plain_one_at_even_sizes():
    pool = MAEDetNet(TINY).blocks[0][0].pool
    ones = pool(torch.ones(1, 1, 5, 7))
    assert ones.shape[2:] == (3, 4) and (ones == 1).all()
    images = torch.randn(1, 2, 8, 6)
    assert torch.equal(pool(images), nn.functional.avg_pool2d(images, 2))


def test_forward_is_what_the_reference_says():
    """One super-block by hand."""
    torch.manual_seed(0)
    net = MAEDetNet('8k3s2|12k5s2x2b6').eval()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_()
            m.weight.data.uniform_(0.5, 2)
    images = torch.randn(2, 3, 32, 32)
    x = torch.relu(net.stem.bn(net.stem.conv(images)))
    first, second = net.blocks[0]

    def main(block, x, stride):
        x = torch.relu(block.conv1.bn(block.conv1.conv(x)))
        x = nn.functional.conv2d(x, block.conv2.conv.weight, stride=stride, padding=2)
        return block.conv3.bn(block.conv3.conv(torch.relu(block.conv2.bn(x))))

    y = torch.relu(main(first, x, 2) + first.shortcut.bn(first.shortcut.conv(nn.functional.avg_pool2d(x, 2))))
    y = torch.relu(main(second, y, 1) + y)
    torch.testing.assert_close(net(images)[0], y)
    assert second.shortcut is None and second.pool is None
    assert all(m.bias is None for m in net.modules() if isinstance(m, nn.Conv2d))


def test_structures_in_every_form():
    arch = read_structure(TINY)
    for value in (TINY, arch, to_dicts(arch), list(arch.genes)):
        with torch.device('meta'):
            assert MAEDetNet(value).arch == arch


@pytest.mark.parametrize(
    ('kwargs', 'match'),
    [
        (dict(arch='maedet-xl'), 'maedet-s, maedet-m, maedet-l'),
        (dict(arch='8k3s2|8k4s2x1b8'), 'Block 1 .* kernels must be odd'),
        (dict(arch='8k3s2|8k3s2x0b8'), 'Block 1 .* depth=0'),
        (dict(arch=TINY, out_indices=(0, 3)), r'from 0 \(stride 4\) to 2 \(stride 16\); got \(0, 3\)'),
        (dict(arch=TINY, out_indices=()), 'out_indices is empty'),
        (dict(arch=TINY, frozen_stages=4), r'must be -1 \(nothing frozen\), 0 \(stem\) or up to 3'),
        (dict(arch=TINY, frozen_stages='1'), "must be -1 .*; got '1'"),
        (dict(arch='8k3s2|8k3s1x1b8'), '8k3s2.8k3s1x1b8 has no block of stride 2'),
        (dict(arch=TINY, min_loaded=-1), 'min_loaded must lie between 0 and 1'),
    ],
)
def test_arguments_that_do_not_fit_are_refused(kwargs, match):
    with pytest.raises(ValueError, match=match):
        MAEDetNet(**kwargs)


def test_frozen_stages_and_norm_eval():
    net = MAEDetNet(TINY, frozen_stages=2).train()
    frozen = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in net.named_parameters() if not name.startswith('blocks.3')}
    assert not net.blocks[2].training and net.blocks[3].training
    net = MAEDetNet(TINY, norm_eval=True).train()
    assert not any(m.training for m in net.modules() if isinstance(m, nn.BatchNorm2d)) and net.training


@pytest.mark.parametrize('zero', [True, False])
def test_initial_weights(zero):
    net = MAEDetNet(TINY, zero_init_residual=zero)
    net.init_weights()
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == (0.0 if zero and 'conv3' in name else 1.0)).all() and (module.bias == 0).all()
    wide = MAEDetNet('64k3s2|256k3s2x1b128')
    wide.init_weights()
    weight = wide.blocks[0][0].conv2.conv.weight
    assert weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)


def test_checkpointing_changes_nothing():
    torch.manual_seed(0)
    plain = MAEDetNet(TINY, zero_init_residual=False)
    cheap = MAEDetNet(TINY, with_cp=True)
    cheap.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 32, 32)
    for net in (plain, cheap):
        sum(m.sum() for m in net(images)).backward()
    for (name, a), b in zip(plain.named_parameters(), cheap.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)
    for (name, a), b in zip(plain.named_buffers(), cheap.buffers(), strict=True):
        assert torch.equal(a, b), name


def test_a_checkpoint_of_another_net_is_refused(tmp_path):
    torch.save(MAEDetNet('8k3s2|8k5s2x2b8').state_dict(), tmp_path / 'other.pth')
    net = MAEDetNet(TINY, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'other.pth')))
    with pytest.raises(DetNASError, match='Only .* of MAEDetNet found'):
        net.init_weights()


@pytest.mark.parametrize('scope', ['mmdet', 'mmpretrain'])
def test_in_a_detector_and_a_classifier_by_scoped_type(scope):
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope(scope)
    backbone = dict(type='detnas_mm.MAEDetNet', arch=TINY)
    if scope == 'mmdet':
        head = dict(
            type='RetinaHead', num_classes=3, in_channels=8, feat_channels=8, stacked_convs=1,
            anchor_generator=dict(type='AnchorGenerator', scales=[4], ratios=[1.0], strides=[4, 8, 16]),
        )  # fmt: skip
        neck = dict(type='FPN', in_channels=[8, 16, 24], out_channels=8, num_outs=3)
        model = MODELS.build(dict(type='RetinaNet', backbone=backbone, neck=neck, bbox_head=head))
        maps = model.extract_feat(torch.zeros(1, 3, 80, 133))
        assert [tuple(m.shape[2:]) for m in maps] == [(20, 34), (10, 17), (5, 9)]
    else:
        head = dict(type='LinearClsHead', num_classes=3, in_channels=24)
        neck = dict(type='GlobalAveragePooling')
        model = MODELS.build(dict(type='ImageClassifier', backbone=backbone, neck=neck, head=head))
        assert model(torch.zeros(2, 3, 50, 84), mode='tensor').shape == (2, 3)
