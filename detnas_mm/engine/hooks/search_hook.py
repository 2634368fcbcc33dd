"""The search's door: a hook, so that every launcher of OpenMMLab starts a search as it starts a training."""

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
from detnas_mm.engine.resume import resume_runner
from detnas_mm.engine.search import run_search
from detnas_mm.engine.settings import JobSettings
from detnas_mm.errors import DetNASError
from detnas_mm.models import checked_weights
from detnas_mm.registry import HOOKS
from detnas_mm.search import SearchJob


@HOOKS.register_module()
class SearchHook(Hook):
    """Holds the search of a Runner's config: the base of hooks that search.

    Attributes:
        job: The search. The launcher hands it over, parsed and checked; where it does not (mmdet's own train script),
            the hook parses the Runner's config.
    """

    priority = 'VERY_LOW'
    job: SearchJob | None = None

    def before_run(self, runner: Runner) -> None:
        """Checks the section, and that what is found can be written, before any long work starts.

        Raises:
            DetNASError: If something is missing or does not fit.
        """
        resume_runner(runner)
        if self.job is None:  # nobody has handed it over
            if 'search' not in runner.cfg:
                raise DetNASError(
                    f'{type(self).__name__} finds no `search` section in the config; inherit one of '
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
        """Refuses a search that this hook cannot run; the launcher calls it before anything is built.

        Raises:
            DetNASError: If something is missing in its section, or the hook is this base, which searches nothing.
        """
        if cls is SearchHook:
            raise DetNASError(
                "SearchHook is a base and searches nothing: name dict(type='detnas_mm.EvolutionSearchHook')."
            )


def unwrapped(runner: Runner) -> nn.Module:
    """The Runner's model, not wrapped for distributed training."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


@HOOKS.register_module()
class EvolutionSearchHook(SearchHook):
    """Runs the strategy of the config's ``search`` section when training has ended.

    A search-only job trains for no epoch: see ``configs/_base_/search/`` and ``tools/search.py``.
    """

    _sampler: str | None = None  # of the loaded checkpoint's paths

    def before_run(self, runner: Runner) -> None:
        """See :meth:`SearchHook.before_run`; before a training, also whether its search could begin after it.

        Raises:
            DetNASError: If the evaluator's data do not fit.
        """
        super().before_run(runner)
        assert self.job is not None
        if self.job.evaluator is not None and runner.cfg.train_cfg.get('max_epochs') != 0:
            copy.copy(self.job.evaluator).setup(self.job, unwrapped(runner))  # the copy keeps no data meanwhile

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
        """Refuses a checkpoint of another model, where nothing is trained after; notes how its paths were sampled.

        Raises:
            DetNASError: If weights of the model are missing in it, or have another shape there.
        """
        self._sampler = checkpoint.get('meta', {}).get('path_sampler')
        if runner.cfg.train_cfg.get('max_epochs') == 0:
            weights = weights_in(checkpoint, runner.cfg.load_from)
            checked_weights(unwrapped(runner), weights, runner.cfg.load_from)
            if weights is not checkpoint.get('state_dict'):  # mmengine itself would find none of these names
                checkpoint['state_dict'] = weights

    def after_train(self, runner: Runner) -> None:
        """Searches on the weights in force: the averaged ones where the config keeps an average.

        Raises:
            DetNASError: If the weights are random: nothing was trained in this process and nothing was loaded.
        """
        if runner.iter == 0 and not runner._has_loaded:
            raise DetNASError(
                'The search would run on random weights: nothing was trained in this process and no checkpoint was '
                'loaded. Give the trained supernet: load_from=… in the config, or tools/search.py CONFIG CHECKPOINT.'
            )
        for buffer in runner.model.buffers():  # BN statistics differ between ranks until something equals them
            broadcast(buffer, src=0)
        averages = [hook for hook in runner.hooks if isinstance(hook, EMAHook)]
        for hook in averages:
            hook.before_val_epoch(runner)
        trained_here = [hook.description for hook in runner.hooks if isinstance(hook, PathSamplingHook)]
        sampler = trained_here[0] if trained_here and runner.iter else self._sampler
        assert self.job is not None  # before_run has seen to it
        try:
            run_search(self.job, unwrapped(runner), sampler)
        finally:
            for hook in averages:
                hook.after_val_epoch(runner)
