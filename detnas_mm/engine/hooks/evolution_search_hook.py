"""The search's door: a hook, so that every launcher of OpenMMLab starts a search as it starts a training."""

from __future__ import annotations

from mmengine.dist import broadcast
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from detnas_mm.engine.hooks.path_sampling_hook import PathSamplingHook
from detnas_mm.engine.search import SearchPlan, run_search
from detnas_mm.errors import DetNASError
from detnas_mm.models import checked_weights
from detnas_mm.registry import HOOKS


@HOOKS.register_module()
class EvolutionSearchHook(Hook):
    """Runs the search of the config's ``search`` section when training has ended.

    A search-only job trains for no epoch: see ``configs/_base_/search/`` and ``tools/search.py``.
    """

    priority = 'VERY_LOW'
    _sampler: str | None = None  # of the loaded checkpoint's paths

    def before_run(self, runner: Runner) -> None:
        """Checks the section before any long work starts."""
        if 'search' not in runner.cfg:
            raise DetNASError(
                'EvolutionSearchHook finds no `search` section in the config; inherit one of configs/_base_/search/.'
            )
        SearchPlan(runner.cfg.search)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuses a checkpoint of another model, where nothing is trained after; notes how its paths were sampled.

        Raises:
            ValueError: If weights of the model are missing in it, or have another shape there.
        """
        self._sampler = checkpoint.get('meta', {}).get('path_sampler')
        if runner.cfg.train_cfg.get('max_epochs') != 0:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        checked_weights(model, checkpoint, runner.cfg.load_from)

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
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        for hook in averages:
            hook.before_val_epoch(runner)
        trained_here = [hook.description for hook in runner.hooks if isinstance(hook, PathSamplingHook)]
        sampler = trained_here[0] if trained_here and runner.iter else self._sampler
        try:
            runner.cfg.work_dir = runner.work_dir
            run_search(runner.cfg, model, runner.logger.info, sampler)
        finally:
            for hook in averages:
                hook.after_val_epoch(runner)
