"""A toy system whose search is a training run: one architecture parameter, learnt by a loop of its own."""

import copy
import os
import signal

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, LOOPS, MODELS
from mmengine.runner import EpochBasedTrainLoop
from torch import nn
from torch.utils.data import Dataset

from detnas_mm.engine import TrainingSearchHook
from detnas_mm.errors import DetNASError
from detnas_mm.registry import SPACES
from detnas_mm.spaces import Architecture, ChoiceSpace


@SPACES.register_module()
class PowerSpace(ChoiceSpace):
    """Space of the power of x, from 1 to 3, that is the input of a linear layer."""

    choices = (3,)

    def spec(self):
        return dict(type='PowerSpace')

    def parse(self, value):
        power = int(value) if isinstance(value, str) else value.genes[0] + 1
        if power not in (1, 2, 3):
            raise DetNASError(f'the power is 1, 2 or 3; got {value!r}.')
        return Architecture((power - 1,))

    def describe(self, arch):
        return str(arch.genes[0] + 1)

    def configure(self, cfg, arch):
        out = copy.deepcopy(dict(cfg))
        out['model'] = dict(type='FixedPower', power=arch.genes[0] + 1)
        return out


@DATASETS.register_module()
class Squares(Dataset):
    """Points of a parabola, augmented: each is moved a little, in y as well."""

    def __len__(self):
        return 32

    def __getitem__(self, index):
        x = torch.tensor([2 * index / 31 - 1]) + 0.02 * torch.rand(1)
        return dict(x=x, y=2 * x**2)


class Powers(BaseModel):
    def error(self, x, y):
        return dict(loss=((self(x, y, mode='tensor') - y) ** 2).mean())


@MODELS.register_module()
class FixedPower(Powers):
    def __init__(self, power, **kwargs):
        super().__init__(**kwargs)
        self.power, self.layer = power, nn.Linear(1, 1)

    def forward(self, x, y=None, mode='tensor'):
        return self.error(x, y) if mode == 'loss' else self.layer(x**self.power)


@MODELS.register_module()
class SoftPower(Powers):
    """A softmax over what every power gives; weights and alpha take turns."""

    turn = 0

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.layers = nn.ModuleList(nn.Linear(1, 1) for _ in range(3))
        self.alpha = nn.Parameter(torch.zeros(3))

    def forward(self, x, y=None, mode='tensor'):
        if mode == 'loss':
            return self.error(x, y)
        outs = torch.stack([layer(x**power) for power, layer in enumerate(self.layers, 1)])
        shares = self.alpha.softmax(0)
        outs, shares = (outs.detach(), shares) if self.turn else (outs, shares.detach())
        return torch.einsum('p,p...->...', shares, outs)


@LOOPS.register_module()
class TakingTurns(EpochBasedTrainLoop):
    def run_iter(self, idx, data_batch):
        self.runner.model.turn = idx % 2
        super().run_iter(idx, data_batch)


@HOOKS.register_module()
class PowerSearchHook(TrainingSearchHook):
    def spec(self):
        return dict(type='PowerSearchHook')

    def decode(self, runner):
        return Architecture((int(runner.model.alpha.argmax()),))

    def metrics(self, runner):
        return dict(alpha=float(runner.model.alpha.max()))

    def weights(self, runner, arch):
        layer = runner.model.layers[arch.genes[0]]
        return {f'layer.{name}': value.detach().cpu() for name, value in layer.state_dict().items()}


@HOOKS.register_module()
class KilledHook(Hook):
    """Ends the process at $DIE_AT, such as ``iter:20``, ``row:1`` (after its row, before its checkpoint)."""

    priority = 80  # between the row (LOW) and the checkpoint (VERY_LOW)

    def _die(self, what, number):
        if os.environ.get('DIE_AT') == f'{what}:{number}':
            os.kill(os.getpid(), signal.SIGKILL)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self._die('iter', runner.iter)

    def after_train_epoch(self, runner):
        self._die('row', runner.epoch)


@HOOKS.register_module()
class KilledAfterCheckpointHook(KilledHook):
    priority = 'LOWEST'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        pass

    def after_train_epoch(self, runner):
        self._die('checkpoint', runner.epoch)
