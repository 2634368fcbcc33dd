"""What hooks of this package check of a Runner that another train script has started, as mmdet's own."""

from __future__ import annotations

from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop

from detnas_mm.datasets.images import name_broken_images
from detnas_mm.engine.inputs import JobInputs
from detnas_mm.engine.runner import NamedRunner
from detnas_mm.evaluators.detection.truth import check_categories


def check_data_sets(runner: Runner) -> None:
    """Checks the data that a Runner has built as the tools of this package do, which have done so for their own.

    For ``before_run`` of hooks: annotation files and classes are held against one another, and images that turn out to
    be broken are named. Of files above 64 MB the categories alone are looked at.

    Args:
        runner: Any Runner.

    Raises:
        DetNASError: Names the file or the key, what is wrong and what to do.
    """
    if isinstance(runner, NamedRunner):
        return
    loops = dict(train=runner._train_loop, val=runner._val_loop, test=runner._test_loop)
    built = {split: loop.dataloader.dataset for split, loop in loops.items() if isinstance(loop, BaseLoop)}
    JobInputs.read(runner.cfg, [*built]).check_annotations()
    for dataset in built.values():
        check_categories(dataset)
        name_broken_images(dataset)
