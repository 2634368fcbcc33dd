import pytest
import torch
from mmengine.model import PretrainedInit

from detnas_mm.systems.detnas import DetNASSupernet

SPACE = dict(stem=4, channels=(8, 16), blocks=(2, 1))


def outputs(net, paths):
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    results = []
    for path in paths:
        net.set_path(path)
        results.append(net(x)[-1])
    return results


def test_aligned_choices_begin_as_the_same_function():
    net = DetNASSupernet(SPACE, aligned_init=True)
    net.init_weights()
    base, mixed, largest = outputs(net.eval(), ['00|0', '12|1', '22|2'])
    torch.testing.assert_close(mixed, base)
    torch.testing.assert_close(largest, base)
    (xception,) = outputs(net, ['33|3'])
    assert not torch.allclose(xception, base)


def test_choices_are_aligned_after_another_initialisation():
    net = DetNASSupernet(SPACE, aligned_init=True, init_cfg=[dict(type='Constant', layer='Conv2d', val=0.5)])
    net.init_weights()
    kernel = net.blocks[0][2].main[1].conv.weight
    assert kernel.shape[-1] == 7 and kernel[0, 0, 3, 3] == 0.5 and kernel[0, 0, 0, 0] == 0


@pytest.mark.parametrize('kind', ['Pretrained', PretrainedInit])
def test_weights_of_a_checkpoint_are_left_alone(kind, tmp_path):
    source = DetNASSupernet(SPACE)
    source.init_weights()
    torch.save(dict(state_dict=source.state_dict()), tmp_path / 'source.pth')
    init_cfg = dict(type=kind, checkpoint=str(tmp_path / 'source.pth'))
    net = DetNASSupernet(SPACE, aligned_init=True, init_cfg=init_cfg)
    net.init_weights()
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in source.state_dict().items())


def test_without_it_choices_are_independent():
    net = DetNASSupernet(SPACE)
    net.init_weights()
    base, mixed = outputs(net.eval(), ['00|0', '12|1'])
    assert not torch.allclose(mixed, base)
