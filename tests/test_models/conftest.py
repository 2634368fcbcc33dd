"""Fixtures of the tests of models: a tiny space, and nets with random tensors."""

import pytest

torch = pytest.importorskip('torch')

TINY = dict(stem=4, channels=(8, 16), blocks=(2, 2), last=24)


@pytest.fixture
def tiny():
    return dict(TINY)


@pytest.fixture(scope='session')
def randomise():
    """Gives all parameters and BN statistics of a module values that differ from their defaults."""

    def run(module, seed=0):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, tensor in module.state_dict().items():
                if name.endswith('num_batches_tracked'):
                    tensor.fill_(seed + 3)
                elif name.endswith('running_var') or tensor.ndim < 2:
                    tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
                else:
                    fan_in = tensor[0].numel()
                    tensor.copy_(torch.randn(tensor.shape, generator=generator) / fan_in**0.5)
        return module

    return run


@pytest.fixture(scope='session')
def images():
    return torch.randn(2, 3, 33, 47, generator=torch.Generator().manual_seed(7))
