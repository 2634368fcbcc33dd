"""Metrics of validation and test, held against the images that are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop

from detnas_mm.engine.other_scripts import check_data_sets
from detnas_mm.evaluators.detection.truth import compare_truth
from detnas_mm.registry import HOOKS


@HOOKS.register_module()
class TruthHook(Hook):
    """Lets COCO's metric judge by the images that are read alone, after a look whether its annotations are theirs.

    mmdet counts the boxes of all images in the metric's annotation file, so that what ``filter_cfg`` and ``indices``
    leave out is missed. The tools of this package put this hook into every job; an exported config has it where mmdet
    alone would judge in another way than its search.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        """See above, for whatever of validation and test the job has; under another train script, its data too.

        Raises:
            DetNASError: See :func:`~detnas_mm.evaluators.detection.truth.compare_truth`, and
                :func:`~detnas_mm.engine.other_scripts.check_data_sets`.
        """
        check_data_sets(runner)
        for name, loop in (('val', runner._val_loop), ('test', runner._test_loop)):
            if not isinstance(loop, BaseLoop):
                continue
            dataset: Any = loop.dataloader.dataset
            cfgs = runner.cfg.get(f'{name}_evaluator')
            for number, metric in enumerate(loop.evaluator.metrics):
                cfg = cfgs if isinstance(cfgs, Mapping) else (cfgs or [{}])[number]
                compare_truth(metric, cfg, dataset, range(len(dataset)), (f'{name}_evaluator', f'{name}_dataloader'))
