"""The training loop of a search by gradient: steps of the weights and of α take turns (NATS, section 3.4)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Mapping
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner

from detnas_mm.checks import whole
from detnas_mm.engine.seeding import seed_loader
from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.seeding import stable_seed
from detnas_mm.registry import LOOPS
from detnas_mm.systems.nats import halves

_OPTIMISERS = (
    'AlternatingTrainLoop needs two optimisers: set '
    "optim_wrapper.constructor='detnas_mm.AlphaOptimWrapperConstructor' and optim_wrapper.alpha."
)
_BOTH = 'param_scheduler=dict(weights=[…], alpha=[])'


@LOOPS.register_module()
class AlternatingTrainLoop(EpochBasedTrainLoop):
    """Trains weights and α in turn, each on data of its own; first order.

    An epoch is one pass over the weights' loader, ``train_dataloader``. After every step of the weights comes one of α,
    whose gradient is taken at the weights as they are then. With gradients accumulated over k batches
    (``accumulative_counts``) either step takes k batches of its loader; fewer are left at the end of an epoch, the last
    step takes those. An iteration is a batch of the weights' loader, for schedulers of both optimisers too.

    The loader of α begins from the start in every epoch, and again when it is through; its order and what is random in
    its loading follow from (seed, epoch, pass). In the first ``alpha_from`` epochs α is not stepped, and its loader is
    not read. It has gradients all the same, which are dropped: with distributed training, a parameter whose
    ``requires_grad`` changes would not be the same on all ranks.

    BN works in both steps as the model's training mode says, so the statistics of a BN that is trained follow both
    loaders.

    Args:
        runner: The Runner; its optimisers are built by ``AlphaOptimWrapperConstructor``.
        dataloader: The weights' loader.
        alpha_dataloader: The loader of α, as ``train_dataloader`` is written.
        alpha_from: For how many epochs α waits. Defaults to 0.
        allow_shared_images: Do not compare the images of both loaders. By default it is an error if those of α are all
            images of the weights, and a warning gives the number if some are.
        **kwargs: As for ``EpochBasedTrainLoop``.

    Raises:
        DetNASError: If there is no such loader, α would never be stepped, or settings of the Runner
            would be applied to α without being meant for it.
    """

    #: No gradient is accumulated across epochs: the last step of an epoch takes the batches that are left.
    steps_at_epoch_end = True

    def __init__(
        self,
        runner: Runner,
        dataloader: Any,
        alpha_dataloader: Any = None,
        alpha_from: int = 0,
        allow_shared_images: bool = False,
        **kwargs: Any,
    ) -> None:
        if alpha_dataloader is None:
            raise DetNASError(
                'train_cfg.alpha_dataloader is missing: give α a loader of its own, written as train_dataloader is, of '
                'images that train_dataloader does not have.'
            )
        _check_shared_settings(runner)
        if not allow_shared_images:
            halves.check_settings(dataloader, alpha_dataloader)
        super().__init__(runner, dataloader, **kwargs)
        if isinstance(self.dataloader.sampler, InfiniteSampler):
            raise DetNASError(
                'train_dataloader.sampler is an InfiniteSampler, with which an epoch, one pass over the images, never '
                "ends. Set train_dataloader.sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True)."
            )
        self.alpha_from = whole('train_cfg.alpha_from', alpha_from)
        if self.alpha_from >= self.max_epochs:
            raise DetNASError(
                f'train_cfg.alpha_from={alpha_from} epochs of max_epochs={self.max_epochs}: α would never be stepped. '
                f'Give alpha_from a number below max_epochs.'
            )
        self.alpha_dataloader = runner.build_dataloader(alpha_dataloader, seed=runner.seed)
        if not len(self.alpha_dataloader):
            raise DetNASError('train_cfg.alpha_dataloader has no batch: give it more images, or drop_last=False.')
        if not allow_shared_images:
            halves.check_images(self.dataloader.dataset, self.alpha_dataloader.dataset, runner.logger.warning)
        if getattr(self.alpha_dataloader.sampler, 'shuffle', True) is False:
            runner.logger.warning(
                'train_cfg.alpha_dataloader does not shuffle and begins from the start in every epoch: images that are '
                'not reached in one are never seen. Set sampler.shuffle=True.'
            )

    def run(self) -> Any:
        """Trains.

        Raises:
            DetNASError: If the Runner has other optimisers.
        """
        found = self.runner.optim_wrapper
        if not isinstance(found, OptimWrapperDict) or set(found.keys()) != {'weights', 'alpha'}:
            raise DetNASError(_OPTIMISERS)
        return super().run()

    def run_epoch(self) -> None:
        """Trains for an epoch; no gradient is left over from one epoch to the next."""
        model, batches = self.runner.model, len(self.dataloader)
        steps = math.ceil(batches / self._weights._accumulative_counts)
        self._weights.initialize_count_status(model, 0, batches)
        self._alpha.initialize_count_status(model, 0, steps * self._alpha._accumulative_counts)
        self._alpha_batches = self._passes(steps * self._alpha._accumulative_counts)
        super().run_epoch()
        self._alpha_batches.close()  # ends its workers

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Trains the weights on a batch and, when that has stepped them, α."""
        runner = self.runner
        runner.call_hook('before_train_iter', batch_idx=idx, data_batch=data_batch)
        outputs = runner.model.train_step(data_batch, optim_wrapper=self._weights)
        if self._weights.should_update():
            runner.model.zero_grad()  # of α as well
            if self.epoch >= self.alpha_from:
                outputs = {**outputs, 'alpha_loss': self._step_alpha()}
        runner.call_hook('after_train_iter', batch_idx=idx, data_batch=data_batch, outputs=outputs)
        self._iter += 1

    def _step_alpha(self) -> Any:
        """Steps α once and returns the loss of its last batch."""
        model = self.runner.model
        for _ in range(self._alpha._accumulative_counts):
            losses = model.train_step(next(self._alpha_batches), optim_wrapper=self._alpha)
        model.zero_grad()  # of the weights as well
        return losses['loss']

    def _passes(self, needed: int) -> Generator[Any, None, None]:
        """Yields batches of α's loader in an epoch, pass after pass.

        Args:
            needed: How many there are to be at most.
        """
        most, seed = math.ceil(needed / len(self.alpha_dataloader)), stable_seed(('alpha', self.runner.seed))
        for number in itertools.count():
            seed_loader(self.alpha_dataloader, seed, self.epoch * most + number)
            yield from self.alpha_dataloader

    @property
    def _weights(self) -> OptimWrapper:
        return self.runner.optim_wrapper['weights']

    @property
    def _alpha(self) -> OptimWrapper:
        return self.runner.optim_wrapper['alpha']


def _check_shared_settings(runner: Runner) -> None:
    """Refuses one optimiser for all, and settings that mmengine applies to both alike.

    Raises:
        DetNASError: Names the key.
    """
    if isinstance(runner.optim_wrapper, Mapping) and 'constructor' not in runner.optim_wrapper:
        raise DetNASError(_OPTIMISERS)
    schedulers = runner.param_schedulers
    if schedulers and not (isinstance(schedulers, Mapping) and set(schedulers) == {'weights', 'alpha'}):
        raise DetNASError(
            f'param_scheduler must name both optimisers, {_BOTH}: mmengine would give one list to α as well.'
        )
    if (runner.auto_scale_lr or {}).get('enable'):
        raise DetNASError(
            'auto_scale_lr (--auto-scale-lr) would scale the learning rate of α as well: leave it out, and set '
            'optim_wrapper.optimizer.lr to what suits the batch size.'
        )
