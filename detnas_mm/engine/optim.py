"""Optimiser wrapper constructor for models of many small tensors, such as supernets."""

from __future__ import annotations

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from detnas_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class FewGroupsOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, with one group for all parameters of equal settings instead of one for each parameter.

    With ``paramwise_cfg`` mmengine makes a group of every tensor: 1,901 for the large DetNAS supernet. Optimisers loop
    over groups, which takes longer than the arithmetic, above all on a GPU. Results are the same.

    Args:
        optim_wrapper_cfg: As for ``DefaultOptimWrapperConstructor``.
        paramwise_cfg: As for ``DefaultOptimWrapperConstructor``.
    """

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', is_dcn_module: int | float | None = None
    ) -> None:
        """Adds the parameters of a module and of its children; at the root module, merges the groups."""
        super().add_params(params, module, prefix, is_dcn_module)
        if prefix:
            return
        merged: dict[tuple, dict] = {}
        for group in params:
            settings = tuple(sorted((key, value) for key, value in group.items() if key != 'params'))
            merged.setdefault(settings, {**group, 'params': []})['params'] += group['params']
        params[:] = merged.values()
