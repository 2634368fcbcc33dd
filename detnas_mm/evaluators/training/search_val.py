"""Evaluates trained candidates on search-val: ``val_dataloader`` and ``val_evaluator`` of the searched config."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from mmengine.evaluator import Evaluator as MetricRunner

from detnas_mm.config_types import comparable, nodes
from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.detection.metrics import available, build_metric, compute

#: Other uses of the images of search-val, and why they bias a search.
_BIASED = dict(
    train=(
        'training set',
        'The candidates are selected on images that they are trained on, which favours nets that overfit.',
    ),
    test=(
        'test set',
        'The found nets are selected on these images, so their test results are biased upwards.',
    ),
)
#: Settings of a data set that determine its images, besides ``indices``.
_IMAGES = ('data_root', 'ann_file', 'data_prefix', 'sub_data_root', 'split')


def check_search_val(cfg: Mapping[str, Any]) -> list[str]:
    """Checks that a config has search-val.

    Args:
        cfg: The searched config.

    Returns:
        A warning each if search-val has images of the training set, or of the test set.

    Raises:
        DetNASError: If ``val_dataloader`` or ``val_evaluator`` is missing.
    """
    missing = [key for key in ('val_dataloader', 'val_evaluator') if not cfg.get(key)]
    if missing:
        raise DetNASError(
            f'Candidates are evaluated on search-val, and the config has no {" and no ".join(missing)}. Give it '
            f'val_dataloader and val_evaluator of images that are in neither the training set nor the test set; '
            f'tools in tools/dataset_converters/ split a training set.'
        )
    own, others = _images(cfg['val_dataloader']), {split: _images(cfg.get(f'{split}_dataloader')) for split in _BIASED}
    return [
        f'Search-val is the {name}: val_dataloader and {split}_dataloader read the same annotations. {why}'
        for split, (name, why) in _BIASED.items()
        if any(
            images == theirs and (indices == other or None in (indices, other))
            for images, indices in own
            for theirs, other in others[split]
        )
    ]


def _images(loader: Any) -> list[tuple[str, Any]]:
    """Returns the files of each data set of a loader, wrapped ones included, and its subset ``indices``, if any."""
    found = [node for node in nodes((loader or {}).get('dataset')) if node.get('ann_file') or node.get('data_root')]
    return [
        (repr(comparable({key: node[key] for key in _IMAGES if node.get(key) is not None})), node.get('indices'))
        for node in found
    ]


def judged_on_search_val(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of a config that tests on its validation set.

    Args:
        cfg: A candidate's config.
    """
    out = copy.deepcopy(dict(cfg))
    for part in ('dataloader', 'evaluator'):
        out[f'test_{part}'] = copy.deepcopy(out[f'val_{part}'])
    out['val_evaluator'] = out['test_evaluator'] = available(out['val_evaluator'])
    settings = out['val_cfg'] = out.get('val_cfg') or dict(type='ValLoop')  # mmengine refuses a loader without a loop
    out['test_cfg'] = dict(type='TestLoop') | ({'fp16': settings['fp16']} if 'fp16' in settings else {})
    if any('indices' in node for node in nodes(out['val_dataloader'])):  # mmdet's metrics count the boxes of all images
        out['custom_hooks'] = [*(out.get('custom_hooks') or ()), dict(type='detnas_mm.TruthHook')]
    return out


class UnroundedMetrics(MetricRunner):
    """Evaluator of a test loop that returns unrounded metrics.

    Args:
        cfg: ``test_evaluator``: one metric or several.

    Attributes:
        values: Metrics of the last test, by name.
    """

    def __init__(self, cfg: Any) -> None:
        super().__init__([build_metric(one, None) for one in (cfg if isinstance(cfg, (list, tuple)) else [cfg])])
        self.values: dict[str, float] = {}

    def evaluate(self, size: int) -> dict[str, float]:
        """See mmengine's ``Evaluator.evaluate``."""
        self.values = {}
        for metric in self.metrics:
            self.values |= compute(metric, metric.results[:size])
            metric.results.clear()
        return self.values


def written_metrics(values: Mapping[str, float]) -> dict[str, float | None]:
    """Returns metrics as JSON values; those that are not finite become None."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def read_metrics(values: Mapping[str, float | None]) -> dict[str, float]:
    """Reads metrics of :func:`written_metrics`; None becomes NaN."""
    return {name: math.nan if value is None else value for name, value in values.items()}
