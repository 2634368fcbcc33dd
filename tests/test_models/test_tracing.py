"""torch.fx traces found and published nets; the traced net computes the same."""

import pytest
import torch
from torch import fx

from detnas_mm.systems.detnas import DetNASNet
from detnas_mm.systems.mae_det import MAEDetNet

SPACE = dict(stem=4, channels=(8, 16), blocks=(2, 2))
NETS = {
    'found': lambda **more: DetNASNet('03|12', space=SPACE, **more),
    'even_odd': lambda **more: DetNASNet('03|12', space=SPACE, channel_split='even_odd', **more),
    'structure': lambda **more: MAEDetNet('8k3s2|8k5s2x2b8|16k3s2x1b8|16k3s1x2b8|24k3s2x1b16', **more),
}


@pytest.mark.parametrize('with_cp', [False, True])
@pytest.mark.parametrize('train', [False, True])
@pytest.mark.parametrize('name', NETS)
def test_a_traced_net_gives_the_same_in_every_layout(name, train, with_cp):
    """To the bit, in the same layout; at sizes that it was not traced at, for there are none."""
    net = NETS[name](with_cp=with_cp).train(train)
    traced = fx.symbolic_trace(net)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    for size in ((64, 96), (75, 53)):
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(2, 3, *size).to(memory_format=layout)
            outputs = []
            for one in (net, traced):  # which share their BN statistics
                net.load_state_dict(before)
                outputs.append(one(x))
            for expected, found in zip(*outputs, strict=True):
                assert torch.equal(expected, found) and expected.stride() == found.stride()
