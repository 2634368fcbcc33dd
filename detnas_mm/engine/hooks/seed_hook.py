"""Seeds every epoch or iteration of a training, so that a resumed training equals an uninterrupted one."""

from __future__ import annotations

from typing import Any

from mmengine.dist import broadcast, get_world_size
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from detnas_mm.checks import whole
from detnas_mm.engine.resume import resume_runner
from detnas_mm.engine.seeding import SeededPasses, seed_loader, seed_process
from detnas_mm.errors import DetNASError
from detnas_mm.registry import HOOKS

#: Of a checkpoint that was written within a step: the gradients accumulated so far, by parameter.
GRADIENTS = 'accumulated_gradients'


class _SeedHook(Hook):
    """Saves and restores the gradients of an unfinished step, where they are accumulated over several iterations.

    mmengine's checkpoints lack them. With several processes each has gradients of its own, and a checkpoint is of the
    first one alone: they are not saved, and a warning says so.
    """

    priority = 'VERY_HIGH'
    _gradients: dict[str, Any] | None = None
    _warned = False

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Adds the gradients of an unfinished step to a checkpoint."""
        if not any(map(_is_within_step, _wrappers(runner))):
            return
        if get_world_size() > 1:
            self._warn_once(runner, f'The checkpoint of iteration {runner.iter + 1} is written within a step')
        else:
            named = runner.model.named_parameters()
            checkpoint[GRADIENTS] = {name: p.grad.cpu() for name, p in named if p.grad is not None}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Takes the gradients out of a checkpoint that the training resumes from."""
        self._gradients = checkpoint.get(GRADIENTS) if runner._resume else None

    def _warn_once(self, runner: Runner, fact: str) -> None:
        if not self._warned:
            runner.logger.warning(
                f'{fact}: with several processes checkpoints lack the gradients of an unfinished step, so a resumed '
                f'training differs slightly. Choose accumulative_counts that divides the iterations of an epoch '
                f'(train_dataloader.num_batch_per_epoch), or those between checkpoints.'
            )
        self._warned = True

    def _restore_gradients(self, runner: Runner) -> None:
        gradients, self._gradients = self._gradients, None
        if not gradients:
            return
        for name, parameter in runner.model.named_parameters():
            if name in gradients:
                parameter.grad = gradients[name].to(parameter)
        runner.logger.info('Restored the gradients of the unfinished step from the checkpoint.')


def _wrappers(runner: Runner) -> list[Any]:
    wrapper = runner.optim_wrapper
    return list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]


def _is_within_step(wrapper: Any) -> bool:
    """Returns whether an optimiser has accumulated gradients that it has not used yet."""
    done = getattr(wrapper, '_inner_count', 0)  # mmengine has no public names for these
    return bool(done % getattr(wrapper, '_accumulative_counts', 1)) and done != wrapper._max_counts


@HOOKS.register_module()
class EpochSeedHook(_SeedHook):
    """Seeds all random numbers at the start of every training epoch.

    The generators of this process are seeded by (seed, epoch, rank), the train loader by
    :func:`~detnas_mm.engine.seeding.seed_loader`. mmengine does not restore random states when it resumes; with this
    hook a training resumed from a checkpoint at the end of an epoch has the same weights, to the bit, as an
    uninterrupted one. A loop with further loaders must call ``seed_loader`` for each of them.

    mmengine's loop accumulates gradients across the end of an epoch: the checkpoint holds them if there is one process,
    else a warning is logged. A loop whose optimisers step at the end of every epoch sets ``steps_at_epoch_end = True``.

    Args:
        seed: Seed of the training's random numbers. Defaults to 0.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = whole('EpochSeedHook.seed', seed)

    def before_run(self, runner: Runner) -> None:
        """Finds the checkpoint to resume from; raises if the initial weights have no seed.

        Raises:
            DetNASError: If the config has no seed, or no checkpoint can be resumed.
        """
        _begin(runner, self)

    def before_train(self, runner: Runner) -> None:
        """Raises if checkpoints do not have the complete state at the end of an epoch.

        Raises:
            DetNASError: If the loop does not train by epoch, or checkpoints are written by iteration or without the
                state of the optimiser or of the schedulers.
        """
        loop = runner.train_loop
        if not isinstance(loop, EpochBasedTrainLoop):
            raise DetNASError(
                f'EpochSeedHook seeds epochs, but {type(loop).__name__} has none: use detnas_mm.IterationSeedHook, or '
                f'set train_cfg.by_epoch=True and train_cfg.max_epochs, or remove the hook from custom_hooks.'
            )
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                _check_checkpoints(self, hook, by_epoch=True)
        within = not getattr(loop, 'steps_at_epoch_end', False)
        counts = {getattr(one, '_accumulative_counts', 1) for one in _wrappers(runner)}
        if within and get_world_size() > 1 and any(len(loop.dataloader) % count for count in counts):
            fact = f'Gradients are accumulated over {max(counts)} iterations, and an epoch has {len(loop.dataloader)}'
            self._warn_once(runner, fact)
        self._restore_gradients(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        """Seeds the process and the train loader; all ranks get the buffers of rank 0, which checkpoints hold."""
        seed_process(self.seed, runner.epoch)
        seed_loader(runner.train_loop.dataloader, self.seed, runner.epoch)
        for model in (runner.model, *(hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook))):
            for buffer in model.buffers():
                broadcast(buffer, src=0)


@HOOKS.register_module()
class IterationSeedHook(_SeedHook):
    """Seeds all random numbers at every iteration: :class:`EpochSeedHook` for trainings by ``IterBasedTrainLoop``.

    A training resumed from a checkpoint of any iteration has the same weights, to the bit, as an uninterrupted one. The
    loader's earlier batches are skipped without being loaded.

    Args:
        seed: Seed of the training's random numbers. Defaults to 0.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = whole('IterationSeedHook.seed', seed)

    def before_run(self, runner: Runner) -> None:
        """See :meth:`EpochSeedHook.before_run`."""
        _begin(runner, self)

    def before_train(self, runner: Runner) -> None:
        """Seeds the loader; raises if checkpoints do not have the complete state.

        Raises:
            DetNASError: If the loop trains by epoch, or checkpoints are written by epoch or without the state of the
                optimiser or of the schedulers.
        """
        loop = runner.train_loop
        if not isinstance(loop, IterBasedTrainLoop):
            raise DetNASError(
                f'IterationSeedHook needs an IterBasedTrainLoop, but this training has a '
                f'{type(loop).__name__}: use detnas_mm.EpochSeedHook.'
            )
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                _check_checkpoints(self, hook, by_epoch=False)
        loop.dataloader_iterator = SeededPasses(loop.dataloader, self.seed)
        self._restore_gradients(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Seeds the process."""
        seed_process(self.seed, runner.iter)


def _begin(runner: Runner, hook: Hook) -> None:
    """Finds the checkpoint to resume from; raises if the initial weights have no seed."""
    resume_runner(runner)
    if runner._randomness_cfg.get('seed') is None:
        raise DetNASError(
            f'{type(hook).__name__}: randomness.seed is None, so a training killed before its first checkpoint '
            f'would restart with other weights: set randomness=dict(seed=0) or another number.'
        )


def _check_checkpoints(owner: Hook, hook: CheckpointHook, by_epoch: bool) -> None:
    """Raises if resuming from the checkpoints would not be exact to the bit."""
    needed = dict(by_epoch=by_epoch, save_optimizer=True, save_param_scheduler=True)
    wrong = [f'{name}={value}' for name, value in needed.items() if getattr(hook, name) is not value]
    if wrong:
        kind = 'whole checkpoints of an epoch' if by_epoch else 'whole checkpoints by iteration'
        raise DetNASError(
            f'{type(owner).__name__}: resuming is exact to the bit only from {kind}; set {", ".join(wrong)} in '
            f'default_hooks.checkpoint, or remove the hook from custom_hooks.'
        )
