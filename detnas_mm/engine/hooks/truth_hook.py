"""Hook that checks metrics of validation and test against the images that are read."""

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
    """Restricts COCO's metric to the images that are read, and checks that its annotations match them.

    mmdet counts the boxes of all images in the metric's annotation file, so those that ``filter_cfg`` and ``indices``
    remove count as missed. The tools of this package add this hook to every job; an exported config has it if mmdet
    alone would compute another value than the search.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        """Checks the metrics of validation and test; with another train script than this package's, the data too.

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
