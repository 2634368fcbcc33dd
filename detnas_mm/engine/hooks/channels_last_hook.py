"""Another memory layout, which makes depthwise convolutions faster."""

from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from detnas_mm.registry import HOOKS


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Keeps the model's weights channels last while it trains; activations follow the weights.

    Depthwise convolutions are where it pays. Results differ in their last bits, so the layout is the ordinary one again
    when training has ended: what a search then scores is, to the bit, what the exported net scores anywhere else.
    """

    def before_train(self, runner: Runner) -> None:
        """Changes the layout; values stay as they are."""
        runner.model.to(memory_format=torch.channels_last)

    def after_train(self, runner: Runner) -> None:
        """Changes it back."""
        runner.model.to(memory_format=torch.contiguous_format)
