"""Training loop of the search by gradient: alternates steps of the weights and of α (NATS, section 3.4)."""

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
    """Trains the weights and α in turn, each on its own loader, with the first-order gradient of α.

    An epoch is one pass over the loader of the weights, ``train_dataloader``. Each step of the weights is followed by
    a step of α, whose gradient is computed with the updated weights. With ``accumulative_counts=k`` either step takes k
    batches of its loader; at the end of an epoch the step of the weights takes the batches that are left. Schedulers of
    both optimisers count batches of the weights' loader as iterations.

    The loader of α restarts in every epoch, and whenever it is exhausted. Its order and its random transforms are
    seeded by (seed, epoch, pass). In the first ``alpha_from`` epochs α is not stepped and its loader is not read. Its
    gradients are computed and dropped there: switching ``requires_grad`` would make α differ between ranks under
    distributed training.

    BN layers that are trained update their statistics in both steps.

    Args:
        runner: The Runner; its optimisers are built by ``AlphaOptimWrapperConstructor``.
        dataloader: Loader of the weights.
        alpha_dataloader: Config of the loader of α, as ``train_dataloader``.
        alpha_from: Number of epochs before α is trained. Defaults to 0.
        allow_shared_images: Skip the comparison of the images of both loaders. Defaults to False: an error if all
            images of α are images of the weights, a warning if some are.
        **kwargs: As for ``EpochBasedTrainLoop``.

    Raises:
        DetNASError: If ``alpha_dataloader`` is missing or empty, ``train_dataloader`` is infinite, α would never be
            stepped, all images of α are images of the weights, or a setting of the Runner would apply to α by mistake.
    """

    #: See :class:`~detnas_mm.engine.hooks.EpochSeedHook`.
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
                'train_cfg.alpha_dataloader is missing: set it as train_dataloader, with images that train_dataloader '
                'does not read.'
            )
        _check_shared_settings(runner)
        if not allow_shared_images:
            halves.check_settings(dataloader, alpha_dataloader)
        super().__init__(runner, dataloader, **kwargs)
        if isinstance(_sampler(self.dataloader), InfiniteSampler):
            raise DetNASError(
                'train_dataloader.sampler is an InfiniteSampler, with which an epoch never ends. Set '
                "train_dataloader.sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True)."
            )
        self.alpha_from = whole('train_cfg.alpha_from', alpha_from)
        if self.alpha_from >= self.max_epochs:
            raise DetNASError(
                f'train_cfg.alpha_from={alpha_from} must be below max_epochs={self.max_epochs}; otherwise α is never '
                f'trained.'
            )
        self.alpha_dataloader = runner.build_dataloader(alpha_dataloader, seed=runner.seed)
        if not len(self.alpha_dataloader):
            raise DetNASError('train_cfg.alpha_dataloader has no batch: use more images, or drop_last=False.')
        if not allow_shared_images:
            halves.check_images(self.dataloader.dataset, self.alpha_dataloader.dataset, runner.logger.warning)
        if getattr(_sampler(self.alpha_dataloader), 'shuffle', True) is False:
            runner.logger.warning(
                'train_cfg.alpha_dataloader does not shuffle and restarts in every epoch: images beyond the steps of '
                'one epoch are never used. Set train_cfg.alpha_dataloader.sampler.shuffle=True.'
            )

    def run(self) -> Any:
        """Runs the training.

        Raises:
            DetNASError: If the Runner does not have the two optimisers ``weights`` and ``alpha``.
        """
        found = self.runner.optim_wrapper
        if not isinstance(found, OptimWrapperDict) or set(found.keys()) != {'weights', 'alpha'}:
            raise DetNASError(_OPTIMISERS)
        return super().run()

    def run_epoch(self) -> None:
        """Trains for one epoch; no gradient is carried over to the next epoch."""
        model, batches = self.runner.model, len(self.dataloader)
        steps = math.ceil(batches / self._weights._accumulative_counts)
        self._weights.initialize_count_status(model, 0, batches)
        self._alpha.initialize_count_status(model, 0, steps * self._alpha._accumulative_counts)
        self._alpha_batches = self._passes(steps * self._alpha._accumulative_counts)
        super().run_epoch()
        self._alpha_batches.close()  # stops its workers

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Trains the weights on a batch and, if that was a step, α."""
        runner = self.runner
        runner.call_hook('before_train_iter', batch_idx=idx, data_batch=data_batch)
        outputs = runner.model.train_step(data_batch, optim_wrapper=self._weights)
        if self._weights.should_update():
            runner.model.zero_grad()  # also those of α
            if self.epoch >= self.alpha_from:
                outputs = {**outputs, 'alpha_loss': self._step_alpha()}
        runner.call_hook('after_train_iter', batch_idx=idx, data_batch=data_batch, outputs=outputs)
        self._iter += 1

    def _step_alpha(self) -> Any:
        """Steps α once and returns the loss of its last batch."""
        model = self.runner.model
        for _ in range(self._alpha._accumulative_counts):
            losses = model.train_step(next(self._alpha_batches), optim_wrapper=self._alpha)
        model.zero_grad()  # also those of the weights
        return losses['loss']

    def _passes(self, needed: int) -> Generator[Any, None, None]:
        """Yields the batches of α's loader in an epoch, pass after pass.

        Args:
            needed: Upper bound of their number.
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


def _sampler(loader: Any) -> Any:
    """Returns the sampler of a loader; if batches are drawn by a sampler of their own, the one that this reads."""
    return getattr(loader.batch_sampler, 'sampler', loader.sampler)


def _check_shared_settings(runner: Runner) -> None:
    """Checks that there are two optimisers, and no setting that mmengine would apply to both.

    Raises:
        DetNASError: If not; names the key.
    """
    if isinstance(runner.optim_wrapper, Mapping) and 'constructor' not in runner.optim_wrapper:
        raise DetNASError(_OPTIMISERS)
    schedulers = runner.param_schedulers
    if schedulers and not (isinstance(schedulers, Mapping) and set(schedulers) == {'weights', 'alpha'}):
        raise DetNASError(
            f'param_scheduler must name both optimisers, {_BOTH}: mmengine applies a plain list to α too.'
        )
    if (runner.auto_scale_lr or {}).get('enable'):
        raise DetNASError(
            'auto_scale_lr (--auto-scale-lr) would also scale the learning rate of α: remove it, and set '
            'optim_wrapper.optimizer.lr for your batch size.'
        )
