import torch

from detnas_mm.models import DetNASSupernet

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


def test_without_it_choices_are_independent():
    net = DetNASSupernet(SPACE)
    net.init_weights()
    base, mixed = outputs(net.eval(), ['00|0', '12|1'])
    assert not torch.allclose(mixed, base)
