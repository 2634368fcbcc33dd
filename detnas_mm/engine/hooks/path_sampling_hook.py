"""Single-path sampling during supernet training."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from detnas_mm.checks import whole
from detnas_mm.engine.other_scripts import check_data_sets
from detnas_mm.engine.path_samplers import PathSampler
from detnas_mm.engine.resume import resume_runner
from detnas_mm.models import Supernet, find_supernet
from detnas_mm.registry import HOOKS, PATH_SAMPLERS, build_from


@HOOKS.register_module()
class PathSamplingHook(Hook):
    """Sets one active path for every optimiser step, and removes it after.

    The path is a function of (seed, step) only: it is the same on all ranks without communication, and after resuming.
    With gradient accumulation the path is the same for all iterations of an optimiser step, so weights outside of the
    path get no gradient, and an optimiser changes neither weights nor momentum without gradient.

    Args:
        sampler: Config of a path sampler. Defaults to ``dict(type='UniformPathSampler')``.
        seed: Seed of the sampling. Defaults to 0.
        eval_path: Path for validation and testing, as text such as ``'2120|2112|33130031|3132'``; its BN statistics are
            those of the training, which mix all paths. Defaults to None: validation and testing raise an error.
    """

    priority = 'HIGH'

    def __init__(self, sampler: dict | None = None, seed: int = 0, eval_path: str | None = None) -> None:
        self.sampler_cfg = sampler or dict(type='UniformPathSampler')
        self.seed = whole('PathSamplingHook.seed', seed)
        self.eval_path = eval_path

    def before_run(self, runner: Runner) -> None:
        """Finds the supernet, and raises if it does not have the path for evaluation.

        With another train script than this package's, checks the data, too.
        """
        resume_runner(runner)
        check_data_sets(runner)
        self.supernet: Supernet = find_supernet(runner.model)
        self._evaluated = None if self.eval_path is None else self.supernet.space.parse(self.eval_path)

    def before_train(self, runner: Runner) -> None:
        """Builds the sampler."""
        self.sampler: PathSampler = build_from(PATH_SAMPLERS, self.sampler_cfg)
        self.sampler.setup(self.supernet.space)
        self.description = f'{self.sampler} from seed {self.seed}'
        runner.logger.info(f'Paths are sampled by {self.description}.')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Adds the sampler's description to the checkpoint."""
        checkpoint['meta']['path_sampler'] = self.description

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Sets the path of this optimiser step."""
        step = runner.iter // getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        self.supernet.set_path(self.sampler.sample(self.seed, step))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Removes the path, so that nothing runs on a path by accident."""
        self.supernet.set_path(None)

    def before_val_epoch(self, runner: Runner) -> None:
        """Sets the path for evaluation, if there is one."""
        if self._evaluated is not None:
            self.supernet.set_path(self._evaluated)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Removes the path for evaluation."""
        if self._evaluated is not None:
            self.supernet.set_path(None)

    before_test_epoch, after_test_epoch = before_val_epoch, after_val_epoch
