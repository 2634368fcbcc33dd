"""Hook of the search by gradient. Registers its loop and its constructor of optimisers as well."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import EMAHook
from mmengine.runner import Runner

from detnas_mm.cli import typed
from detnas_mm.config_types import is_other
from detnas_mm.engine.hooks import EpochSeedHook, PathSamplingHook, TrainingSearchHook
from detnas_mm.engine.hooks.search_hook import unwrapped
from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.detection.batches import checked_loader
from detnas_mm.evaluators.one_shot import bn_recalibration
from detnas_mm.evaluators.one_shot.calibration import Calibration, norms_to_recalibrate
from detnas_mm.evaluators.one_shot.path_tree import PathTree
from detnas_mm.models import find_supernet
from detnas_mm.models.subnet import slice_state_dict
from detnas_mm.options import option_word
from detnas_mm.registry import HOOKS
from detnas_mm.search import SearchJob, counted
from detnas_mm.spaces import Architecture
from detnas_mm.systems.nats.loops import AlternatingTrainLoop
from detnas_mm.systems.nats.model import DilatedSupernet
from detnas_mm.systems.nats.optim import AlphaOptimWrapperConstructor, alpha_entropy, alphas, short_schedule
from detnas_mm.systems.nats.pictures import draw_genotypes
from detnas_mm.systems.nats.sorted_export import initial_weights, is_sorted, load_pretrained, write_sorted_start
from detnas_mm.systems.nats.sorting import sort_model
from detnas_mm.systems.nats.space import DilationSpace

__all__ = ['AlphaOptimWrapperConstructor', 'AlternatingTrainLoop', 'NATSSearchHook']

_ENTROPY = 'alpha_entropy'
_KEY = 'NATSSearchHook.calibration'
#: Key of the message hub, which is in every checkpoint: ``init_cfg`` of the weights that the search started from.
_START = 'nats_initial_weights'


@HOOKS.register_module()
class NATSSearchHook(TrainingSearchHook):
    """Searches dilations by gradient: writes one ledger row per epoch and exports the net of the last epoch.

    The metric of a row is ``alpha_entropy``: the mean entropy of softmax(α) over all groups of channels, divided by its
    maximum. It is 1 before α is trained and 0 when every group has one genotype of weight 1. ``genotypes.png`` shows
    the share of each genotype per epoch; the visualizer logs them as ``share/<stage>/<genotype>``.

    The exported weights are those of the supernet. BN layers that are frozen in training keep their statistics. The
    statistics of other BN layers are recalibrated for the found net if ``calibration`` is given; otherwise they are
    those of the mixture of all genotypes. ``batch_norm`` in ``best.json`` and in the checkpoint's meta records which.

    Args:
        calibration: ``dict(dataloader=…, num_images=500, seed=0)``: training images to recalibrate BN on. Defaults to
            None: no recalibration.

    Raises:
        DetNASError: If ``calibration`` has other keys.
    """

    def __init__(self, calibration: Mapping[str, Any] | None = None) -> None:
        if calibration is not None:
            unknown = sorted(set(calibration) - {'dataloader', 'num_images', 'seed'})
            if unknown or 'dataloader' not in calibration:
                raise DetNASError(
                    f'{_KEY} must be dict(dataloader=…, num_images=500, seed=0) or None; got the keys '
                    f'{sorted(calibration)}.'
                )
            loader = checked_loader(f'{_KEY}.dataloader', calibration['dataloader'])
            calibration = {**calibration, 'dataloader': loader}
        self.calibration_cfg = calibration

    @classmethod
    def check(cls, job: SearchJob) -> None:
        """See :meth:`SearchHook.check`.

        Raises:
            DetNASError: If the space is not a :class:`DilationSpace`, an objective is unknown, there are constraints,
                or ``export.config`` is missing.
        """
        super().check(job)
        if not isinstance(job.space, DilationSpace):
            raise DetNASError(f'{cls.__name__} needs a DilationSpace; search.space is {job.space!r}.')
        if job.budget.constraints:
            raise DetNASError('search.constraints: a search by gradient cannot use constraints; remove them.')
        for objective in job.objectives:
            if objective.name not in (_ENTROPY, *job.budget.models):
                raise DetNASError(
                    f'search.objectives: unknown objective {objective.name!r}. {cls.__name__} computes {_ENTROPY}; '
                    f'search.costs are {sorted(job.budget.models)}. Write '
                    f"objectives=[dict(name='{_ENTROPY}', direction='minimize')]."
                )
        if job.export.config is None:
            raise DetNASError(
                'search.export.config is missing. The config of the search trains α and cannot train the found net: '
                "name a training config with the plain backbone, export=dict(config='….py')."
            )

    def before_run(self, runner: Runner) -> None:
        """See :meth:`SearchHook.before_run`.

        Raises:
            DetNASError: If the model, the training loop or other hooks do not fit a search by gradient.
        """
        super().before_run(runner)
        self._model = unwrapped(runner)
        supernet = find_supernet(self._model)
        assert isinstance(supernet, DilatedSupernet) and supernet.mixture  # otherwise there would be no optimiser of α
        supernet.check_space(self._job.space)
        self._supernet = supernet
        if not isinstance(runner.train_loop, AlternatingTrainLoop):
            raise DetNASError(
                f'{type(self).__name__} needs a loop that trains the weights and α in turn, '
                f"train_cfg=dict(type='detnas_mm.AlternatingTrainLoop', …); train_cfg.type is "
                f'{type(runner.train_loop).__name__}.'
            )
        self._alpha_from = runner.train_loop.alpha_from
        if any(isinstance(hook, PathSamplingHook) for hook in runner.hooks):
            raise DetNASError(
                'PathSamplingHook trains single paths, in which α is not used: remove it from custom_hooks.'
            )
        if not any(isinstance(hook, EpochSeedHook) for hook in runner.hooks):
            raise DetNASError(
                f'{type(self).__name__} needs random numbers that are seeded per epoch, so that a resumed search '
                f"writes the same rows: add dict(type='detnas_mm.EpochSeedHook') to custom_hooks."
            )
        self._calibration = None
        if self.calibration_cfg is not None:
            norms = norms_to_recalibrate(self._model, _KEY)
            self._calibration = Calibration(self._model, norms, **self.calibration_cfg, key=_KEY)
        self._job.log(f'BN of the exported net: {self.meta()["batch_norm"]}.')
        if any(isinstance(hook, EMAHook) for hook in runner.hooks):
            runner.logger.warning(
                'EMAHook: the net is decoded and exported from the trained weights and α, not from their averages, '
                'which are in the checkpoints of the epochs. Remove the hook unless you need those.'
            )
        line = short_schedule(runner.cfg.get('param_scheduler'), runner.train_loop.max_epochs)
        if line:
            runner.logger.warning(line)
        if not runner._resume:  # otherwise it is in the checkpoint
            init = self._initial_weights(runner)
            runner.message_hub.update_info(_START, init)
            self._check_start(runner, init)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Checks that the α of a checkpoint have the shapes of this space; mmengine would skip others with a warning.

        Raises:
            DetNASError: If one has another shape; names the first.
        """
        ours = {name: tuple(alpha.shape) for name, alpha in alphas(self._model).items()}
        for key, value in checkpoint.get('state_dict', checkpoint).items():
            name = key.removeprefix('module.')
            if name.endswith('.alpha') and ours.get(name) != tuple(value.shape):
                raise DetNASError(
                    f'{runner._load_from} has α of another space: (groups, genotypes) of {name} are '
                    f'{tuple(value.shape)} in the checkpoint, {ours.get(name, "missing")} here. Use the settings of '
                    f'that search in model.backbone.space and search.space, or start from a checkpoint without α.'
                )

    def spec(self) -> dict[str, Any]:
        """See :meth:`TrainingSearchHook.spec`."""
        calibration = None if self._calibration is None else self._calibration.spec()
        optimiser = json.loads(json.dumps(self._job.cfg['optim_wrapper']['alpha'], default=str))
        return dict(type='NATSSearchHook', alpha_from=self._alpha_from, alpha=optimiser, calibration=calibration)

    def decode(self, runner: Runner) -> Architecture:
        """See :meth:`TrainingSearchHook.decode`: takes the genotype of the largest α in every group."""
        return self._supernet.decode()

    def metrics(self, runner: Runner) -> dict[str, float]:
        """See :meth:`TrainingSearchHook.metrics`."""
        return {_ENTROPY: alpha_entropy(self._model)}

    def summary(self, arch: Architecture) -> str:
        """See :meth:`TrainingSearchHook.summary`: shares of the genotypes per stage."""
        return self._supernet.space.shares_text(arch)

    def meta(self) -> dict[str, Any]:
        """See :meth:`TrainingSearchHook.meta`: records how the BN statistics were obtained."""
        trained = len(bn_recalibration.trained_norms(self._model))
        frozen = len(bn_recalibration.batch_norms(self._model)) - trained
        parts = [f'{counted(frozen, "layer")} frozen in training, untouched'] if frozen else []
        if self._calibration is not None:
            images = len(self._calibration.indices)
            parts.append(f'{counted(trained, "layer")} recalibrated for the found net on {counted(images, "image")}')
        elif trained:
            parts.append(f'{counted(trained, "layer")} as trained with all genotypes mixed')
        return dict(batch_norm='; '.join(parts) or 'none')

    def weights(self, runner: Runner, arch: Architecture) -> dict[str, Any]:
        """See :meth:`TrainingSearchHook.weights`: those of the supernet; ranks share the recalibration of BN."""
        model, supernet = self._model, self._supernet
        prefix = next(name for name, module in model.named_modules() if module is supernet)
        with bn_recalibration.restored(model), bn_recalibration.local_batch_norm(model):
            if self._calibration is not None:
                tree = PathTree([supernet.segments(arch)])
                self._calibration.recalibrate(tree, range(len(self._calibration)))
                if tree.failure(0):
                    raise DetNASError(f'{tree.failure(0)}: lower the learning rate, or remove {_KEY}.')
                bn_recalibration.apply(self._calibration.norms, tree.statistics(0))
            state = {key: value.detach().cpu() for key, value in model.state_dict().items()}
            return slice_state_dict(state, arch, supernet, prefix)  # copies, since the statistics are restored on exit

    def after_train_epoch(self, runner: Runner) -> None:
        """See :meth:`TrainingSearchHook.after_train_epoch`; also logs and draws the shares of genotypes."""
        super().after_train_epoch(runner)
        if not is_main_process():
            return
        space, rows = self._supernet.space, self._ledger.records
        row = rows[runner.epoch]
        found = {
            f'share/{stage}/{name}': share
            for stage, shares in space.shares(space.parse(row.arch)).items()
            for name, share in shares.items()
        }
        runner.visualizer.add_scalars({_ENTROPY: row.metrics[_ENTROPY], **found}, step=runner.epoch + 1)
        assert self._job.work_dir is not None
        draw_genotypes(space, [space.parse(one.arch) for one in rows], self._job.work_dir / 'genotypes.png')

    def after_train(self, runner: Runner) -> None:
        """See :meth:`TrainingSearchHook.after_train`; also logs the command that retrains as in the paper."""
        super().after_train(runner)
        job, init = self._job, runner.message_hub.get_info(_START, self._initial_weights(runner))
        start = self._start(runner, init)
        if is_main_process():
            assert job.work_dir is not None
            best = json.loads((job.work_dir / 'best.json').read_text())[0]
            config = job.work_dir / best['config']
            if start is not None and is_sorted(config):
                init = write_sorted_start(self._found(job.space.parse(best['arch'])), config, start)
            job.log(retrain_line(config, init))

    def _initial_weights(self, runner: Runner) -> Any:
        """Returns ``init_cfg`` of the weights that the search starts from, of plain values: those of ``load_from``."""
        init = initial_weights(self._job.cfg['model']['backbone'])
        if runner._load_from and not runner._resume:  # loaded after init_cfg; resumed, it names the last epoch
            prefix = next(name for name, module in self._model.named_modules() if module is self._supernet)
            init = dict(type='Pretrained', checkpoint=runner._load_from, prefix=f'{prefix}.')
        return json.loads(json.dumps(init, default=str))

    def _start(self, runner: Runner, init: Any) -> dict[str, Any] | None:
        """Returns the weights that are sorted like the exported net; on all ranks, since one may download them."""
        return load_pretrained(init, getattr(runner, 'trust', False)) if self._job.export.sort_channels else None

    def _check_start(self, runner: Runner, init: Any) -> None:
        """Checks, before the search, that the weights it starts from can be sorted like the exported net.

        Raises:
            DetNASError: See :func:`sort_model`.
        """
        start = self._start(runner, init)
        if start is not None and is_main_process():
            sort_model(self._found(self._job.space.sample(np.random.default_rng(0))), start)

    def _found(self, arch: Architecture) -> Mapping[str, Any]:
        """Returns the searched config with a net in it, its channels in place; only on rank 0."""
        assert self._job.exporter is not None
        return self._job.space.configure(self._job.exporter.searched, arch) or {}


def retrain_line(config: Path, init: Any) -> str:
    """Returns the command that trains a found net from the weights that the search started from (NATS, section 4.1).

    Args:
        config: Path of the config of the found net.
        init: ``init_cfg`` of the supernet; None for random weights.
    """
    several = init if isinstance(init, (list, tuple)) else [init]
    if not any(is_other(one, 'Pretrained') for one in several):
        return f'Train it from random weights, as the supernet: {typed("train.py", config)}'
    key = 'model.backbone.init_cfg'
    options = [f'{key}={init!r}']
    if isinstance(init, Mapping) and all(isinstance(value, str) for value in init.values()):
        init = dict(init)
        if Path(init.get('checkpoint', '')).is_file():
            init['checkpoint'] = str(Path(init['checkpoint']).absolute())
        options = [option_word(f'{key}.{name}', value) for name, value in init.items()]
    return (
        'Retrain it as in the paper, from the pre-trained backbone: '
        f'{typed("train.py", config, "--cfg-options", *options)}'
    )
