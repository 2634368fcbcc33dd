import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from tests import digits


@HOOKS.register_module(force=True)
class Layouts(Hook):
    priority = 'LOWEST'

    def __init__(self):
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        weight = runner.model.backbone.stem.conv.weight
        self.seen.append((weight.is_contiguous(memory_format=torch.channels_last), weight.is_contiguous()))


def train(folder, *hooks):
    hooks = [*hooks, dict(type='Layouts')]
    runner = digits.runner('detnas-digits_net_cls', folder, train_cfg__max_iters=3, custom_hooks=hooks)
    runner.train()
    return runner.model, next(hook for hook in runner.hooks if isinstance(hook, Layouts)).seen


def test_training_runs_channels_last_and_learns_the_same(digits_folder, tmp_path):
    plain, before = train(tmp_path / 'a')
    other, seen = train(tmp_path / 'b', dict(type='detnas_mm.ChannelsLastHook'))
    assert before == [(False, True)] * 3 and seen == [(True, False)] * 3
    assert all(p.is_contiguous() for p in other.parameters())  # what is evaluated after has the ordinary layout
    for (key, value), same in zip(plain.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(value, same, rtol=1e-2, atol=1e-3, msg=key)
