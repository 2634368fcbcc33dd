"""The ShuffleNetV2-like unit."""

import pytest
import torch
from torch import nn

from detnas_mm.models.layers import conv_norm
from detnas_mm.spaces.conv import Conv
from detnas_mm.systems.detnas import DetNASSpace
from detnas_mm.systems.detnas.shuffle_unit import ShuffleUnit, split_channels

SPACE = DetNASSpace(dict(stem=4, channels=(8, 16), blocks=(2, 2)))


def make(block, choice, split='shuffle', with_cp=False):
    return ShuffleUnit(*SPACE.convs(SPACE.blocks[block], choice), dict(type='BN'), split, with_cp)


def test_channels_are_dealt_as_the_authors_do():
    x = torch.arange(8.0).view(1, 8, 1, 1).expand(2, 8, 3, 5)
    for how, untouched, main in (
        ('even_odd', [0, 2, 4, 6], [1, 3, 5, 7]),
        # channel shuffle in two groups gives 0 4 1 5 2 6 3 7, which is cut in the middle
        ('shuffle', [0, 4, 1, 5], [2, 6, 3, 7]),
    ):
        halves = split_channels(x, how)
        assert [half[0, :, 0, 0].tolist() for half in halves] == [untouched, main]
        assert all(half.shape == (2, 4, 3, 5) for half in halves)


@pytest.mark.parametrize('split', ['shuffle', 'even_odd'])
def test_channels_last_in_gives_channels_last_out_and_the_same_channels(split):
    unit = make(1, 0, split).eval()
    x = torch.randn(2, 8, 6, 5)
    last = x.to(memory_format=torch.channels_last)
    for half, expected in zip(split_channels(last, split), split_channels(x, split), strict=True):
        assert torch.equal(half, expected)
    assert unit.to(memory_format=torch.channels_last)(last).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('choice', range(4))
@pytest.mark.parametrize('size', [(8, 8), (7, 9), (1, 2)])
def test_shapes(choice, size):
    for index, block in enumerate(SPACE.blocks):
        out = make(index, choice).eval()(torch.randn(2, block.cin, *size))
        height, width = (-(-s // block.stride) for s in size)
        assert out.shape == (2, block.cout, height, width)


@pytest.mark.parametrize('split', ['shuffle', 'even_odd'])
@pytest.mark.parametrize('choice', [0, 3])
def test_untouched_half_passes_first_and_untouched(choice, split):
    unit = make(1, choice, split)
    x = torch.randn(2, 8, 6, 6)
    out = unit(x)
    untouched, dealt = split_channels(x, split)
    assert torch.equal(out[:, :4], untouched)
    assert torch.equal(out[:, 4:], unit.eval().main.train()(dealt))
    assert unit.proj is None


def test_relu_follows_pointwise_convolutions_only():
    for choice in range(4):
        unit = make(0, choice)
        for layer in (*unit.main, *unit.proj):
            has_relu = any(isinstance(m, nn.ReLU) for m in layer)
            assert has_relu == (layer.conv.groups == 1)


def test_norm_keeps_its_mmcv_name():
    assert [n for n, _ in conv_norm(Conv(8, 8), dict(type='GN', num_groups=2), act=True).named_children()] == [
        'conv', 'gn', 'relu',
    ]  # fmt: skip


@pytest.mark.parametrize('block', [0, 1])
@pytest.mark.parametrize('choice', [1, 3])
def test_checkpointing_changes_nothing(block, choice, randomise):
    plain, saving = (randomise(make(block, choice, with_cp=cp)).train() for cp in (False, True))
    x = torch.randn(2, SPACE.blocks[block].cin, 6, 6)  # needs no gradient, like images
    for unit in (plain, saving):
        for _ in range(2):
            unit(x).square().sum().backward()
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert a.grad is not None and torch.equal(a.grad, b.grad), name
    for (name, a), b in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(a, b), name
    assert saving.main[0].bn.num_batches_tracked == 3 + 2  # not counted again when recomputing


def test_checkpointing_keeps_no_inner_activations():
    x = torch.randn(2, 8, 6, 6, requires_grad=True)
    kept = []
    for with_cp in (False, True):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            make(1, 3, with_cp=with_cp)(x)
        kept.append(sum(sizes))
    assert kept[1] == x.numel() < kept[0]
