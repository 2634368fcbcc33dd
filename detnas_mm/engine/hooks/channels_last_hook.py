"""Hook for channels_last memory format, which makes depthwise convolutions faster."""

from __future__ import annotations

from collections.abc import Callable

from mmengine.hooks import Hook
from mmengine.runner import Runner

from detnas_mm.checks import flag
from detnas_mm.models.layout import to_channels_last
from detnas_mm.registry import HOOKS


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Trains with weights in channels_last memory format; activations follow.

    It pays for models with many depthwise convolutions. Results differ in their last bits, so the contiguous layout is
    restored after training, and tests use the layout of the search.

    Args:
        evaluation: Whether validation and tests use channels_last, too: exported by a search with
            ``evaluator.channels_last=True``, so that its test gives the fitness to the bit.
    """

    def __init__(self, evaluation: bool = False) -> None:
        self.evaluation = flag('ChannelsLastHook.evaluation', evaluation)
        self._back: Callable[[], None] | None = None  # restores the contiguous layout, if it was changed

    def before_train(self, runner: Runner) -> None:
        """Changes the layout; values do not change."""
        self._change(runner)

    def after_train(self, runner: Runner) -> None:
        """Restores the layout."""
        self._change_back()

    def before_val(self, runner: Runner) -> None:
        """Changes the layout, with ``evaluation=True``."""
        if self.evaluation:
            self._change(runner)

    def before_test(self, runner: Runner) -> None:
        """See :meth:`before_val`."""
        self.before_val(runner)

    def after_test(self, runner: Runner) -> None:
        """Restores the layout."""
        self._change_back()

    def _change(self, runner: Runner) -> None:
        if self._back is None:
            self._back = to_channels_last(runner.model)

    def _change_back(self) -> None:
        if self._back is not None:
            self._back()
            self._back = None
