"""Checks settings of dataloaders against those that mmengine and torch accept."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from torch.utils.data import DataLoader

from detnas_mm.checks import whole
from detnas_mm.errors import DetNASError

#: Settings of a dataloader's config that mmengine reads; the rest goes to torch.
_OF_MMENGINE = ('num_batch_per_epoch', 'disable_subprocess_warning')
_EXAMPLE = "dict(batch_size=8, dataset=dict(type='CocoDataset', …))"
#: Settings whose value torch uses only at the first batch, or when a schedule counts the batches of an epoch.
_SAMPLERS = dict(
    sampler="dict(type='DefaultSampler', shuffle=True)", batch_sampler="dict(type='AspectRatioBatchSampler')"
)


def fitted_loader(name: str, cfg: Any) -> dict[str, Any]:
    """Checks a dataloader's settings; returns them without those that need workers if ``num_workers`` is 0.

    Args:
        name: The key of the config.
        cfg: Its value, which should be mmengine's dataloader config; not changed.

    Raises:
        DetNASError: If a setting is unknown, or a number, sampler or data set has the wrong type. The message gives
            key, value and what is allowed.
    """
    if not isinstance(cfg, Mapping):
        raise DetNASError(f'{name} must be a dict, such as {_EXAMPLE}; got {cfg!r:.200}.')
    dataset = cfg.get('dataset', {})
    if isinstance(dataset, str) or not hasattr(dataset, '__getitem__'):
        raise DetNASError(
            f'{name}.dataset must be a dict with the settings of a data set, as in {_EXAMPLE}; got {dataset!r:.200}.'
        )
    allowed = [key for key in inspect.signature(DataLoader).parameters if key != 'self'] + list(_OF_MMENGINE)
    for key in cfg:
        if key not in allowed:
            near = get_close_matches(str(key), allowed, 1)
            raise DetNASError(
                f'{name}.{key}={cfg[key]!r} is not a setting of a dataloader'
                f'{f"; did you mean {near[0]}?" if near else "."} Settings: {", ".join(allowed)}.'
            )
    out = dict(cfg)
    if cfg.get('batch_size') is not None:
        whole(f'{name}.batch_size', cfg['batch_size'], 1)
    if not whole(f'{name}.num_workers', cfg.get('num_workers', 0)):
        for key in ('persistent_workers', 'prefetch_factor'):
            out.pop(key, None)
    if out.get('prefetch_factor') is not None:
        whole(f'{name}.prefetch_factor', out['prefetch_factor'], 1)
    for key, example in _SAMPLERS.items():
        given = cfg.get(key)
        if given is not None and (isinstance(given, str) or not isinstance(given, Iterable)):
            raise DetNASError(
                f'{name}.{key} must be a dict with the settings of a sampler, such as {example}; got {given!r}.'
            )
    return out
