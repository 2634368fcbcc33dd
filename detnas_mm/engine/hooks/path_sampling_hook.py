"""Single-path sampling while a supernet is trained."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from detnas_mm.engine.path_samplers import PathSampler
from detnas_mm.models import Supernet, find_supernet
from detnas_mm.registry import HOOKS, PATH_SAMPLERS, build_from


@HOOKS.register_module()
class PathSamplingHook(Hook):
    """Puts one path in force for every optimiser step, and takes it away after.

    The path is a function of (seed, step) alone: it is the same on all ranks with no communication, and right after a
    resume. With gradient accumulation one path holds for all iterations of an optimiser step, so that what is not on
    the path gets no gradient, and an optimiser that is handed no gradient moves neither weights nor momentum.

    Args:
        sampler: Config of a path sampler. Defaults to ``dict(type='UniformPathSampler')``.
        seed: Seed of the sampling. Defaults to 0.
    """

    priority = 'HIGH'

    def __init__(self, sampler: dict | None = None, seed: int = 0) -> None:
        self.sampler_cfg = sampler or dict(type='UniformPathSampler')
        self.seed = seed

    def before_train(self, runner: Runner) -> None:
        """Finds the supernet and builds the sampler."""
        self.supernet: Supernet = find_supernet(runner.model)
        self.sampler: PathSampler = build_from(PATH_SAMPLERS, self.sampler_cfg)
        self.sampler.setup(self.supernet.space)
        runner.logger.info(f'Paths are sampled by {self.sampler} from seed {self.seed}.')

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Puts the path of this optimiser step in force."""
        step = runner.iter // getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        self.supernet.set_path(self.sampler.sample(self.seed, step))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Takes the path away, so that nothing runs on a path that nobody chose."""
        self.supernet.set_path(None)
