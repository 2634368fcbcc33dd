"""Another memory layout, which makes depthwise convolutions faster."""

from __future__ import annotations

from collections.abc import Callable

from mmengine.hooks import Hook
from mmengine.runner import Runner

from detnas_mm.checks import flag
from detnas_mm.models.layout import to_channels_last
from detnas_mm.registry import HOOKS


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Keeps the model's weights channels last while it trains; activations follow the weights.

    Depthwise convolutions are where it pays. Results differ in their last bits, so the layout is the ordinary one again
    when training has ended, and what is tested has the layout that it was searched with.

    Args:
        evaluation: Whether validation and tests run channels last, too: what a search with
            ``evaluator.channels_last=True`` exports does, so that its test gives the fitness to the bit.
    """

    def __init__(self, evaluation: bool = False) -> None:
        self.evaluation = flag('ChannelsLastHook.evaluation', evaluation)
        self._back: Callable[[], None] | None = None  # puts the ordinary layout back, where it is another one

    def before_train(self, runner: Runner) -> None:
        """Changes the layout; values stay as they are."""
        self._change(runner)

    def after_train(self, runner: Runner) -> None:
        """Changes it back."""
        self._change_back()

    def before_val(self, runner: Runner) -> None:
        """Changes the layout, if evaluation is to run in it."""
        if self.evaluation:
            self._change(runner)

    def before_test(self, runner: Runner) -> None:
        """See :meth:`before_val`."""
        self.before_val(runner)

    def after_test(self, runner: Runner) -> None:
        """Changes it back."""
        self._change_back()

    def _change(self, runner: Runner) -> None:
        if self._back is None:
            self._back = to_channels_last(runner.model)

    def _change_back(self) -> None:
        if self._back is not None:
            self._back()
            self._back = None
