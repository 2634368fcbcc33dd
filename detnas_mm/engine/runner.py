"""mmengine's Runner with errors that name the part of the config that they are about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any

from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapperDict
from mmengine.registry import MODELS, OPTIMIZERS
from mmengine.runner import CheckpointLoader, Runner
from torch.utils.data import DataLoader

from detnas_mm.checkpoints import load_checkpoint_file, weights_in
from detnas_mm.datasets.described import described
from detnas_mm.datasets.reading import check_images, looked_at
from detnas_mm.engine.hooks.checkpoint_hook import AtomicCheckpointHook
from detnas_mm.errors import DetNASError, library_errors
from detnas_mm.evaluators.detection.truth import check_categories
from detnas_mm.registry import building, refuse_unknown_type, running, unknown_arguments
from detnas_mm.terminal import begun, doing, follow

#: Parts that the Runner builds, by method; a string is the key of the config.
_PARTS = dict(
    setup_env='env_cfg',
    build_visualizer='visualizer',
    build_model='model',
    register_default_hooks='default_hooks',
    register_custom_hooks='custom_hooks',
    scale_lr='auto_scale_lr',
    build_param_scheduler='param_scheduler',
    build_train_loop='train_cfg',
    build_val_loop='val_cfg',
    build_test_loop='test_cfg',
)

#: What a loop does, by the hook point after each of its iterations.
_ITERATIONS = dict(after_train_iter='training', after_val_iter='validating', after_test_iter='testing')


class NamedLoader(DataLoader):
    """A data loader whose errors name its key in the config: dead workers, unreadable files.

    Attributes:
        key: Key of its config.
    """

    key = 'dataloader'

    def __iter__(self) -> Any:
        with library_errors(self.key):
            batches = super().__iter__()
        return self._named(batches)

    def _named(self, batches: Iterator[Any]) -> Iterator[Any]:
        end = object()
        while True:
            with library_errors(self.key):
                batch = next(batches, end)
            if batch is end:
                return
            yield batch


class NamedRunner(Runner):
    """mmengine's Runner; faults of a part of the config raise expected errors that name the part.

    So do errors of libraries during training and testing that neither this package nor code of the config has caused.
    Checkpoints are read as by :func:`~detnas_mm.checkpoints.weights_in`.

    Attributes:
        trust: Whether checkpoints may contain more than tensors.
    """

    trust = False
    _batch = 0

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """See ``Runner.build_logger``; on a terminal that a tool manages, reports go to the log file alone."""
        logger = super().build_logger(*args, **kwargs)
        follow(logger)
        return logger

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """See ``Runner.call_hook``; notes where the loop stands, for lines that break a silence."""
        if fn_name in _ITERATIONS:
            self._mode, self._batch = _ITERATIONS[fn_name], kwargs['batch_idx'] + 1
            begun()
        super().call_hook(fn_name, **kwargs)

    def _standing(self) -> str:
        """Returns the progress of the loop, such as ``training, 26 of 38 iterations done``."""
        if not self._batch:
            return 'reading the first images'
        if self._mode == 'training':
            return f'training, {self.iter + 1:,} of {self.max_iters:,} iterations done'
        return f'{self._mode}, {self._batch:,} batches done'

    def build_dataloader(self, dataloader: Any, *args: Any, **kwargs: Any) -> Any:
        """See ``Runner.build_dataloader``; the settings must be those of a loader in the Runner's config.

        Raises:
            DetNASError: If there is a fault. The message names key or file and entry; raised later for unreadable
                files.
        """
        if isinstance(dataloader, DataLoader):
            return dataloader
        key = self._key(dataloader, 'dataloader')
        with doing(f'reading the data of {key}'):
            with building(key), looked_at(described(key, dataloader, self.default_scope.scope_name)):
                loader = Runner.build_dataloader(dataloader, *args, **kwargs)
            check_categories(loader.dataset)
            check_images(loader.dataset, boxes=key.startswith('train_'))
        loader.__class__ = NamedLoader
        loader.key = key
        return loader

    def build_evaluator(self, evaluator: Any) -> Any:
        """See ``Runner.build_evaluator``."""
        with building(self._key(evaluator, 'evaluator')):
            return super().build_evaluator(evaluator)

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """See ``Runner.build_optim_wrapper``."""
        optimiser = optim_wrapper.get('optimizer') if isinstance(optim_wrapper, dict) else None
        if isinstance(optimiser, dict):  # mmengine's constructor uses the class before it is built
            refuse_unknown_type('optim_wrapper.optimizer', optimiser.get('type'), OPTIMIZERS)
        with building('optim_wrapper'):
            built = super().build_optim_wrapper(optim_wrapper)
        for one in built.values() if isinstance(built, OptimWrapperDict) else [built]:
            if getattr(one, 'clip_grad_kwargs', None):  # used by torch at the first step only
                refusal = unknown_arguments(one.clip_func, one.clip_grad_kwargs)
                if refusal:
                    raise DetNASError(f'optim_wrapper.clip_grad: {refusal}')
        return built

    def train(self) -> Any:
        """See ``Runner.train``."""
        with running(f'{self.cfg.filename or "the config"}, while it is trained'), doing(self._standing):
            return super().train()

    def test(self) -> dict:
        """See ``Runner.test``."""
        with running(f'{self.cfg.filename or "the config"}, while it is tested'), doing(self._standing):
            return super().test()

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> Any:
        """See ``Runner.load_checkpoint``."""
        with library_errors(filename), self._own_reading():
            return super().load_checkpoint(filename, *args, **kwargs)

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """See ``Runner.resume``."""
        with library_errors(filename), self._own_reading():
            super().resume(filename, *args, **kwargs)

    def register_hook(self, hook: Any, priority: Any = None) -> None:
        """See ``Runner.register_hook``; mmengine's own CheckpointHook becomes an :class:`AtomicCheckpointHook`.

        Raises:
            DetNASError: If a CheckpointHook has an unknown argument, which would fail at the first save, or an
                EMAHook an argument that its average does not have.
        """
        super().register_hook(hook, priority)
        for one in self.hooks:
            if type(one) is CheckpointHook:  # the config keeps its name: exported configs need nothing of this package
                one.__class__ = AtomicCheckpointHook
            if isinstance(one, EMAHook):
                given = {key: value for key, value in one.ema_cfg.items() if key != 'type'}
                refuse_unknown_type('EMAHook', one.ema_cfg['type'], MODELS)
                refusal = unknown_arguments(MODELS.get(one.ema_cfg['type']), given)
                if refusal:
                    raise DetNASError(f'EMAHook: {refusal}')
            known = signature(Runner.save_checkpoint).parameters
            unknown = [key for key in getattr(one, 'args', ()) if key not in known]
            if isinstance(one, CheckpointHook) and unknown:
                own = [key for key in signature(type(one)).parameters if key != 'kwargs']
                raise DetNASError(f'CheckpointHook has no argument {unknown[0]!r}; it takes {", ".join(own)}.')

    def _init_model_weights(self) -> None:
        with building('init_cfg of the model'), self._own_reading():
            super()._init_model_weights()

    @contextmanager
    def _own_reading(self) -> Iterator[None]:
        """Makes mmengine read checkpoint files by this package's function."""

        def load_from_local(filename: str, map_location: Any = None) -> dict[str, Any]:
            checkpoint = load_checkpoint_file(Path(filename).expanduser(), self.trust)
            weights = weights_in(checkpoint, filename)
            return {**(checkpoint if 'state_dict' in checkpoint else {}), 'state_dict': weights}

        before = CheckpointLoader._schemes['']
        CheckpointLoader.register_scheme('', load_from_local, force=True)
        try:
            yield
        finally:
            CheckpointLoader.register_scheme('', before, force=True)

    def _key(self, cfg: Any, part: str) -> str:
        """Returns the key of a dataloader or evaluator in the Runner's config."""
        keys = [f'{split}_{part}' for split in ('train', 'val', 'test')]
        own = (f'train_cfg.{key}' for key, value in (self.cfg.get('train_cfg') or {}).items() if value == cfg)
        return next((key for key in keys if getattr(self, f'_{key}', None) is cfg), next(own, part))


def _named(method: Callable[..., Any], key: str) -> Callable[..., Any]:
    @wraps(method)
    def build(*args: Any, **kwargs: Any) -> Any:
        with building(key):
            return method(*args, **kwargs)

    return build


for _name, _part in _PARTS.items():
    setattr(NamedRunner, _name, _named(getattr(Runner, _name), _part))
