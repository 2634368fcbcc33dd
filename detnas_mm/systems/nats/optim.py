"""Two optimisers for the search by gradient: one for the weights, one for the architecture parameters α, and checks."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

from detnas_mm.config_types import type_name
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


@torch.no_grad()
def alpha_entropy(model: nn.Module) -> float:
    """Returns the mean entropy of softmax(α) over all groups of a model, divided by that of equal α."""
    entropies = []
    for alpha in alphas(model).values():
        own, equal = (torch.special.entr(one.double().cpu().softmax(1)).sum(1) for one in (alpha, 0 * alpha))
        entropies.append(own / equal if alpha.shape[1] > 1 else own)
    return float(torch.cat(entropies).mean())


def short_schedule(schedulers: Any, max_epochs: int) -> str:
    """Returns a warning if the schedule of the weights ends early, as that of a shorter training does; else ''.

    The weights would hardly move while α is trained.

    Args:
        schedulers: ``param_scheduler`` of the config.
        max_epochs: Number of epochs of the search.
    """
    found = schedulers.get('weights', schedulers) if isinstance(schedulers, Mapping) else schedulers
    own = [one for one in (found if isinstance(found, (list, tuple)) else [found]) if isinstance(one, Mapping)]
    by_epoch = [one for one in own if one.get('by_epoch', True)]
    others = [one for one in own if one not in by_epoch and type_name(one.get('type')) != 'LinearLR']  # not a warm-up
    if others or not by_epoch or not all(isinstance(one.get('end'), int) for one in by_epoch):
        return ''
    last = max(by_epoch, key=lambda one: int(one['end']))
    if last['end'] >= max_epochs:
        return ''
    return (
        f'param_scheduler: {type_name(last.get("type"))} of the weights ends after epoch {last["end"]} of '
        f'{max_epochs}, as in a shorter training. Later epochs train the weights at its last learning rate, and α '
        f"beside them. Set a schedule of {max_epochs} epochs, such as weights=[dict(type='CosineAnnealingLR', "
        f'T_max={max_epochs})].'
    )
