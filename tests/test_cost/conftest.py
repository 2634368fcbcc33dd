import pytest
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from detnas_mm.latency.stopwatch import Stopwatch
from tests.test_cost.paper import paper, prepared  # noqa: F401 (fixtures)


@pytest.fixture
def watch():
    """A stopwatch: a microsecond passes with every multiply-add."""

    class OnPaper(Stopwatch):
        now = 0.0

        def mark(self):
            return self.now

    made = OnPaper()

    def pass_time(module, inputs, output):
        if isinstance(module, nn.Conv2d):
            made.now += 1e-6 * output[0].numel() * module.weight[0].numel()

    handle = register_module_forward_hook(pass_time)
    yield made
    handle.remove()
