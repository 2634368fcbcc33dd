"""Two optimisers for the search by gradient: one for the weights, one for the architecture parameters α."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

from detnas_mm.engine.optim import FewGroupsOptimWrapperConstructor
from detnas_mm.errors import DetNASError
from detnas_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS, building, refuse_unknown_type
from detnas_mm.systems.nats.layers import MixedConv2d

_ALPHA = "alpha=dict(optimizer=dict(type='Adam', lr=0.01, betas=(0.5, 0.999), weight_decay=1e-5))"


def alphas(model: nn.Module) -> dict[str, nn.Parameter]:
    """Returns the architecture parameters α of a model, by name."""
    return {
        f'{name}.alpha': module.alpha
        for name, module in model.named_modules()
        if isinstance(module, MixedConv2d) and module.alpha is not None
    }


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class AlphaOptimWrapperConstructor(FewGroupsOptimWrapperConstructor):
    """Builds ``OptimWrapperDict(weights=…, alpha=…)`` with the weights in one optimiser and α in the other.

    The settings of ``optim_wrapper``, with ``paramwise_cfg`` and ``clip_grad``, are those of the weights. Its key
    ``alpha`` configures the wrapper of α: ``dict(optimizer=…)`` and optionally ``clip_grad``. The wrapper of α inherits
    all other settings of the weights' wrapper unless ``alpha`` overrides them: ``type`` (so mixed precision applies to
    both), ``loss_scale``, ``accumulative_counts``.

    Args:
        optim_wrapper_cfg: As for ``DefaultOptimWrapperConstructor``, plus ``alpha``.
        paramwise_cfg: As for ``DefaultOptimWrapperConstructor``; applies to the weights.

    Raises:
        DetNASError: If ``alpha`` is not a config of an optimiser wrapper.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        own = copy.deepcopy(dict(optim_wrapper_cfg))
        alpha = own.pop('alpha', None)
        if not isinstance(alpha, Mapping) or not isinstance(alpha.get('optimizer'), Mapping):
            raise DetNASError(f'optim_wrapper.alpha must configure the optimiser of α, {_ALPHA}; got {alpha!r}.')
        refuse_unknown_type('optim_wrapper.alpha.optimizer', alpha['optimizer'].get('type'), OPTIMIZERS)
        shared = {key: value for key, value in own.items() if key not in ('optimizer', 'clip_grad')}
        self.alpha_cfg: dict[str, Any] = {'type': 'OptimWrapper', **shared, **alpha}
        super().__init__(own, {'custom_keys': {}, **(paramwise_cfg or {})})  # never empty, so that add_params is called

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Builds both wrappers.

        Raises:
            DetNASError: If the model has no α.
        """
        model = getattr(model, 'module', model)
        found = list(alphas(model).values())
        if not found:
            raise DetNASError(
                f'{type(model).__name__} has no architecture parameters α: use a supernet with mixture=True, '
                f"model.backbone=dict(type='detnas_mm.DilatedSupernet', mixture=True, …)."
            )
        self._alphas = {id(one) for one in found}
        weights = super().__call__(model)
        cfg = copy.deepcopy(self.alpha_cfg)
        with building('optim_wrapper.alpha'):
            optimiser = OPTIMIZERS.build(dict(cfg.pop('optimizer'), params=found))
            alpha = OPTIM_WRAPPERS.build(cfg, default_args=dict(optimizer=optimiser))
        return OptimWrapperDict(weights=weights, alpha=alpha)

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', is_dcn_module: int | float | None = None
    ) -> None:
        """Adds the parameters of a module and its children; at the root, removes α."""
        super().add_params(params, module, prefix, is_dcn_module)
        if prefix:
            return
        for group in params:
            group['params'] = [one for one in group['params'] if id(one) not in self._alphas]
        params[:] = [group for group in params if group['params']]
