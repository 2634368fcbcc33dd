"""Seeding every epoch or iteration of a training, so that a resumed one equals one that was never killed."""

from __future__ import annotations

from mmengine.dist import broadcast
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from detnas_mm.checks import whole
from detnas_mm.engine.resume import resume_runner
from detnas_mm.engine.seeding import SeededPasses, seed_loader, seed_process
from detnas_mm.errors import DetNASError
from detnas_mm.registry import HOOKS


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds all random numbers at the start of every training epoch.

    The generators of this process are seeded by (seed, epoch, rank), the train loader by
    :func:`~detnas_mm.engine.seeding.seed_loader`. mmengine restores no random state when it resumes; with this hook a
    training that was killed and resumed from a checkpoint of an epoch's end has the weights, to the bit, of one that
    was never killed. A loop with further loaders calls ``seed_loader`` for each of them.

    mmengine's loop accumulates gradients across the end of an epoch, where checkpoints do not hold them: a warning says
    so. A loop whose optimisers step at the end of every epoch has ``steps_at_epoch_end = True``, and gets none.

    Args:
        seed: Seed of the training's random numbers. Defaults to 0.
    """

    priority = 'VERY_HIGH'

    def __init__(self, seed: int = 0) -> None:
        self.seed = whole('EpochSeedHook.seed', seed)

    def before_run(self, runner: Runner) -> None:
        """Finds the checkpoint to resume from, and refuses a training whose initial weights have no seed.

        Raises:
            DetNASError: If the config has no seed, or no checkpoint can be resumed from.
        """
        _begin(runner, self)

    def before_train(self, runner: Runner) -> None:
        """Refuses a training whose checkpoints do not hold its state at the end of an epoch.

        Raises:
            DetNASError: If the loop does not train by epoch, or checkpoints are written by iteration or without the
                state of the optimiser or of the schedulers.
        """
        loop = runner.train_loop
        if not isinstance(loop, EpochBasedTrainLoop):
            raise DetNASError(
                f'EpochSeedHook seeds epochs, and {type(loop).__name__} has none: take detnas_mm.IterationSeedHook, or '
                f'set train_cfg.by_epoch=True and train_cfg.max_epochs, or take the hook out of custom_hooks.'
            )
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                _check_checkpoints(self, hook, by_epoch=True)
        if getattr(loop, 'steps_at_epoch_end', False):
            return
        wrapper = runner.optim_wrapper
        wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        counts = {getattr(one, '_accumulative_counts', 1) for one in wrappers}
        if any(len(loop.dataloader) % count for count in counts):
            runner.logger.warning(
                f'Gradients are accumulated over {max(counts)} iterations, and an epoch has {len(loop.dataloader)}: '
                f'those of its last iterations are in no checkpoint, so a resumed training differs a little. Choose '
                f'accumulative_counts that divides the iterations of an epoch (train_dataloader.num_batch_per_epoch).'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Seeds the process and the train loader; all ranks get the buffers of rank 0, which checkpoints hold."""
        seed_process(self.seed, runner.epoch)
        seed_loader(runner.train_loop.dataloader, self.seed, runner.epoch)
        for model in (runner.model, *(hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook))):
            for buffer in model.buffers():
                broadcast(buffer, src=0)


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Seeds all random numbers at every iteration: :class:`EpochSeedHook` for trainings by ``IterBasedTrainLoop``.

    A training that was killed and resumed from a checkpoint of any iteration has the weights, to the bit, of one that
    was never killed. What it had of the loader before is skipped without being loaded.

    Args:
        seed: Seed of the training's random numbers. Defaults to 0.
    """

    priority = 'VERY_HIGH'

    def __init__(self, seed: int = 0) -> None:
        self.seed = whole('IterationSeedHook.seed', seed)

    def before_run(self, runner: Runner) -> None:
        """See :meth:`EpochSeedHook.before_run`."""
        _begin(runner, self)

    def before_train(self, runner: Runner) -> None:
        """Seeds the loader; refuses a training whose checkpoints do not hold its state.

        Raises:
            DetNASError: If the loop trains by epoch, or checkpoints are written by epoch or without the state of the
                optimiser or of the schedulers.
        """
        loop = runner.train_loop
        if not isinstance(loop, IterBasedTrainLoop):
            raise DetNASError(
                f'IterationSeedHook seeds iterations of an IterBasedTrainLoop, and this training has a '
                f'{type(loop).__name__}: take detnas_mm.EpochSeedHook instead.'
            )
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                _check_checkpoints(self, hook, by_epoch=False)
        loop.dataloader_iterator = SeededPasses(loop.dataloader, self.seed)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Seeds the process."""
        seed_process(self.seed, runner.iter)


def _begin(runner: Runner, hook: Hook) -> None:
    """Finds the checkpoint to resume from, and refuses a training whose initial weights have no seed."""
    resume_runner(runner)
    if runner._randomness_cfg.get('seed') is None:
        raise DetNASError(
            f'{type(hook).__name__}: randomness.seed is None, so a training that is killed before its first checkpoint '
            f'would begin again with other weights; set randomness=dict(seed=0) or another number.'
        )


def _check_checkpoints(owner: Hook, hook: CheckpointHook, by_epoch: bool) -> None:
    """Refuses checkpoints that a training cannot be resumed from without a difference."""
    needed = dict(by_epoch=by_epoch, save_optimizer=True, save_param_scheduler=True)
    wrong = [f'{name}={value}' for name, value in needed.items() if getattr(hook, name) is not value]
    if wrong:
        kind = 'whole checkpoints of an epoch' if by_epoch else 'whole checkpoints by iteration'
        raise DetNASError(
            f'{type(owner).__name__}: a training resumes to the bit from {kind} alone; set {", ".join(wrong)} in '
            f'default_hooks.checkpoint, or take the hook out of custom_hooks.'
        )
