"""Hooks that run a search inside a Runner, so that every launcher of OpenMMLab can start one."""

from __future__ import annotations

import copy
from pathlib import Path

from mmengine.dist import broadcast
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from detnas_mm.checkpoints import weights_in
from detnas_mm.engine.export import Exporter
from detnas_mm.engine.hooks.path_sampling_hook import PathSamplingHook
from detnas_mm.engine.inputs import JobInputs
from detnas_mm.engine.other_scripts import check_data_sets
from detnas_mm.engine.provenance import frozen_otherwise
from detnas_mm.engine.resume import resume_runner
from detnas_mm.engine.search import refuse_ranks, run_search
from detnas_mm.engine.settings import JobSettings
from detnas_mm.errors import DetNASError
from detnas_mm.models import checked_weights
from detnas_mm.registry import HOOKS
from detnas_mm.search import SearchJob


@HOOKS.register_module()
class SearchHook(Hook):
    """Base class of hooks that search: parses and checks the ``search`` section.

    Attributes:
        job: The search, parsed and checked by the launcher; with another train script, such as mmdet's, the hook parses
            the Runner's config itself.
    """

    priority = 'VERY_LOW'
    job: SearchJob | None = None

    def before_run(self, runner: Runner) -> None:
        """Checks the ``search`` section, and that found nets can be exported, before long work starts.

        Raises:
            DetNASError: If something is missing or does not fit.
        """
        resume_runner(runner)
        if self.job is None:  # not set by a launcher
            if 'search' not in runner.cfg:
                raise DetNASError(
                    f'{type(self).__name__} needs a `search` section in the config; inherit one of '
                    f'configs/_base_/search/.'
                )
            self.job = SearchJob.from_config(runner.cfg)
            self.job.work_dir = Path(runner.work_dir)
            self.check(self.job)
            JobSettings.read(runner.cfg).check()
            check_data_sets(runner)
            JobInputs.read(runner.cfg, ['train']).check_annotations()
            self.job.exporter = Exporter(self.job)
            self.job.prepare()
        self.job.log = runner.logger.info

    @classmethod
    def check(cls, job: SearchJob) -> None:
        """Raises if this hook cannot run a search; called before anything is built.

        Raises:
            DetNASError: If something is missing in its section, or the hook is this base class.
        """
        if cls is SearchHook:
            raise DetNASError(
                "SearchHook is a base class and does not search: use dict(type='detnas_mm.EvolutionSearchHook')."
            )


def unwrapped(runner: Runner) -> nn.Module:
    """Returns the Runner's model without the wrapper of distributed training."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


@HOOKS.register_module()
class EvolutionSearchHook(SearchHook):
    """Runs the strategy of the config's ``search`` section when training has ended.

    A job that only searches has ``max_epochs=0``: see ``configs/_base_/search/`` and ``tools/search.py``.
    """

    _sampler: str | None = None  # description of the loaded checkpoint's path sampler

    def before_run(self, runner: Runner) -> None:
        """See :meth:`SearchHook.before_run`; before a training, it also checks the data of the search.

        Raises:
            DetNASError: If the evaluator's data do not fit, or it runs in one process only and there are several.
        """
        super().before_run(runner)
        assert self.job is not None
        if self.job.evaluator is None:
            return
        refuse_ranks(self.job.evaluator)  # not after the training
        if runner.cfg.train_cfg.get('max_epochs') != 0:
            copy.copy(self.job.evaluator).setup(self.job, unwrapped(runner))  # a copy: data are freed

    @classmethod
    def check(cls, job: SearchJob) -> None:
        """See :meth:`SearchHook.check`."""
        missing = [key for key in ('strategy', 'evaluator') if getattr(job, key) is None]
        if missing:
            raise DetNASError(
                f'{cls.__name__} needs search.{" and search.".join(missing)}, such as '
                f"strategy=dict(type='EvolutionStrategy') and evaluator=dict(type='OneShotEvaluator', …). See "
                f'configs/_base_/search/.'
            )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Raises for a checkpoint of another model unless a training follows; records how its paths were sampled.

        Raises:
            DetNASError: If weights of the model are missing in the checkpoint, or have another shape there.
        """
        self._sampler = checkpoint.get('meta', {}).get('path_sampler')
        if runner.cfg.train_cfg.get('max_epochs') == 0:
            weights = weights_in(checkpoint, runner.cfg.load_from)
            checked_weights(unwrapped(runner), weights, runner.cfg.load_from)
            if weights is not checkpoint.get('state_dict'):  # mmengine would not recognise the names
                checkpoint['state_dict'] = weights
            others = frozen_otherwise(checkpoint.get('meta', {}), getattr(unwrapped(runner), 'backbone', None))
            if others:
                runner.logger.warning(
                    f'The checkpoint was trained with {" and ".join(others)} in model.backbone, unlike this config, so '
                    f'BN that was frozen in training would be recalibrated, or BN that was trained would not. Set the '
                    f'same in both.'
                )

    def after_train(self, runner: Runner) -> None:
        """Searches on the current weights; with an EMAHook, on the averaged ones.

        Raises:
            DetNASError: If the weights are random: nothing was trained in this process, and no checkpoint was loaded.
        """
        if runner.iter == 0 and not runner._has_loaded:
            raise DetNASError(
                'The search would run on random weights: nothing was trained in this process and no checkpoint was '
                'loaded. Give the trained supernet: load_from=… in the config, or tools/search.py CONFIG CHECKPOINT.'
            )
        for buffer in runner.model.buffers():  # BN statistics differ between ranks
            broadcast(buffer, src=0)
        averages = [hook for hook in runner.hooks if isinstance(hook, EMAHook)]
        for hook in averages:
            hook.before_val_epoch(runner)
        trained_here = [hook.description for hook in runner.hooks if isinstance(hook, PathSamplingHook)]
        sampler = trained_here[0] if trained_here and runner.iter else self._sampler
        assert self.job is not None  # set by before_run
        try:
            run_search(self.job, unwrapped(runner), sampler)
        finally:
            for hook in averages:
                hook.after_val_epoch(runner)
