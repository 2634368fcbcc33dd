"""Sorts the channels of exported nets (``search.export.sort_channels``) by the function that the space names."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.seeding import seeded
from detnas_mm.models import build_model
from detnas_mm.registry import MODELS
from detnas_mm.search import SearchJob


def check_sorting(job: SearchJob, cfg: Mapping[str, Any] | None) -> None:
    """Checks, before a search, that the channels of its nets can be sorted; tries it with random weights.

    Args:
        job: The search.
        cfg: The config of one of its nets; None if they have no configs.

    Raises:
        DetNASError: If the space has no such function, or the function raises it.
    """
    name = job.space.channel_sorter
    if name is None or MODELS.get(name) is None:
        raise DetNASError(
            f'search.export.sort_channels: {type(job.space).__name__} has no function that sorts the channels of its '
            f'nets (channel_sorter is {name!r}). Remove the key.'
        )
    if cfg is not None and job.needs_model:
        with seeded(0, cpu_alone=True):
            weights = build_model(Config(copy.deepcopy(dict(cfg)))).state_dict()
        _sort(job, cfg, weights)


def sorted_net(
    job: SearchJob,
    configs: dict[str, dict[str, Any]],
    weights: Mapping[str, Any] | None,
    meta: Mapping[str, Any],
) -> tuple[dict[str, dict[str, Any]], Mapping[str, Any] | None, Mapping[str, Any]]:
    """Returns configs, weights and meta of one net with its channels sorted, and logs which stay in place.

    A net that cannot be sorted, or has no weights, is returned unchanged, and the reason is logged.

    Args:
        job: The search.
        configs: Its configs by name, all with the same net.
        weights: Its weights.
        meta: Plain values for its checkpoint.
    """
    reason = 'no weights are exported.'
    if weights is not None:
        try:
            nets = {name: _sort(job, cfg, weights) for name, cfg in configs.items()}
        except DetNASError as error:  # the search is done, and the net is right as it is
            reason = str(error)
        else:
            _, found, more, line = nets['config']
            job.log(line)
            return {name: net[0] for name, net in nets.items()}, found, {**meta, **more}
    job.log(f'search.export.sort_channels: all channels stay in place: {reason}')
    return configs, weights, meta


def _sort(job: SearchJob, cfg: Mapping[str, Any], weights: Mapping[str, Any]) -> Any:
    """Calls the function of the space; see :attr:`SearchSpace.channel_sorter`."""
    with seeded(0, cpu_alone=True):
        return MODELS.get(job.space.channel_sorter)(cfg, weights)
