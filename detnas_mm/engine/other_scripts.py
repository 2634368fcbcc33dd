"""Checks for Runners that another train script has started, such as mmdet's."""

from __future__ import annotations

from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop

from detnas_mm.datasets.images import name_broken_images
from detnas_mm.engine.inputs import JobInputs
from detnas_mm.engine.runner import NamedRunner
from detnas_mm.evaluators.detection.truth import check_categories


def check_data_sets(runner: Runner) -> None:
    """Checks the data of a Runner as the tools of this package do; skipped if they have started it.

    For ``before_run`` of hooks: compares annotation files and classes, and makes data sets name images that cannot be
    read. Of files above 64 MB only the categories are checked.

    Args:
        runner: Any Runner.

    Raises:
        DetNASError: If there is a fault. The message names the file or key, the fault and what to do.
    """
    if isinstance(runner, NamedRunner):
        return
    loops = dict(train=runner._train_loop, val=runner._val_loop, test=runner._test_loop)
    built = {split: loop.dataloader.dataset for split, loop in loops.items() if isinstance(loop, BaseLoop)}
    JobInputs.read(runner.cfg, [*built]).check_annotations()
    for dataset in built.values():
        check_categories(dataset)
        name_broken_images(dataset)
