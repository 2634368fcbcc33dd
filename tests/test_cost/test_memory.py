"""Peak memory: the table agrees to the byte with watching the built network."""

import numpy as np
import pytest
import torch
from torch import nn

from detnas_mm.cost.count import count_peak_memory
from detnas_mm.systems.detnas import DetNASNet, DetNASSpace, DetNASSupernet, PeakMemoryTable

CUSTOM = dict(stem=6, channels=(10, 24, 32), blocks=(2, 1, 3), last=40)
#: Channels grow faster than pixels shrink in places, so that the peak lies now here, now there.
UNEVEN = [
    dict(stem=4, channels=(16, 128, 1024), blocks=(1, 2, 2)),
    dict(stem=4, channels=(8, 160, 200), blocks=(2, 2, 1)),
    dict(stem=40, channels=(42, 44, 46), blocks=(1, 1, 1)),
    dict(stem=4, channels=(8, 10, 2000), blocks=(1, 1, 1)),
]


def built(space, arch, **kwargs):
    with torch.device('meta'):
        return DetNASNet(arch, space=space, **kwargs)


@pytest.mark.parametrize('split', ['shuffle', 'even_odd'])
@pytest.mark.parametrize('outputs', [None, (1, 2), (0,)])
@pytest.mark.parametrize(
    ('spec', 'size'),
    [('small', (224, 224)), ('small', (97, 131)), (CUSTOM, (33, 65)), *((s, (64, 40)) for s in UNEVEN)],
)
def test_table_equals_counting(spec, size, outputs, split):
    space = DetNASSpace(spec)
    table = PeakMemoryTable(space, size, outputs, split)
    for seed in range(2):
        arch = space.sample(np.random.default_rng(seed))
        net = built(space, arch, out_indices=outputs, channel_split=split)
        assert table.total(arch) == count_peak_memory(net, size)


def test_the_peak_is_tested_in_many_places():
    """Of these spaces the dearest position is the first, the last, and some between, of either stride."""
    tables = [PeakMemoryTable(spec, (64, 40)) for spec in UNEVEN]
    blocks = [table.space.blocks[table.table.max(axis=1).argmax()] for table in tables]
    assert [(block.index, block.stride) for block in blocks] == [(4, 1), (2, 2), (0, 2), (2, 2)]


def test_with_the_last_conv_of_classification():
    space = DetNASSpace(dict(CUSTOM, last=5000))
    arch = space.parse('01|2|312')
    net = built(space, arch, out_indices=(), with_last_conv=True)
    with_last, without = (PeakMemoryTable(space, 48, (), with_last_conv=with_conv) for with_conv in (True, False))
    assert with_last.total(arch) == count_peak_memory(net, 48) > without.total(arch)


def test_a_supernet_is_counted_on_its_path():
    net = DetNASSupernet(CUSTOM).train()
    table = PeakMemoryTable(CUSTOM, 32)
    seen = set()
    for path in ('00|0|000', '33|3|333', '31|2|123'):
        net.set_path(path)
        seen.add(count_peak_memory(net, 32))
        assert table.total(net.active_path) in seen
    assert net.training and len(seen) > 1


def test_counting_by_hand():
    """At most the image, a convolution's output and the normalised one: 2·3 and two times 5 channels of 16 pixels."""
    net = nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.Conv2d(5, 2, 1))
    assert count_peak_memory(net, 4) == 4 * 16 * (3 + 5 + 5)
    # A view costs nothing, a copy does.
    assert count_peak_memory(nn.Unflatten(1, (1, 3)), (4, 8)) == count_peak_memory(nn.Identity(), (4, 8)) == 4 * 32 * 3
    assert count_peak_memory(nn.PixelUnshuffle(2), (4, 8)) == 4 * 32 * (3 + 3)


def test_scope_says_what_is_alive():
    table = PeakMemoryTable(CUSTOM, (96, 64), (1, 2))
    assert 'one image at 96x64, float32, outputs of stages 1, 2 kept, channel_split=shuffle' in table.scope
    assert table.name == 'peak_memory'
    assert 'no output kept' in PeakMemoryTable(CUSTOM, 32, ()).scope


@pytest.mark.parametrize(
    ('kwargs', 'match'),
    [
        (dict(out_indices=(3,)), 'stages from 0 to 2; got'),
        (dict(channel_split='halves'), "'shuffle' or 'even_odd'; got 'halves'"),
        (dict(input_size=0), 'input_size must be'),
    ],
)
def test_bad_arguments_are_refused(kwargs, match):
    with pytest.raises(ValueError, match=match):
        PeakMemoryTable(CUSTOM, **kwargs)
