"""Adds what OpenMMLab's tools need to draw predictions: visualizer, hook, class names and colours."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from inspect import getmro, isclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.registry import DATASETS, MODELS, VISUALIZERS, DefaultScope
from mmengine.visualization import Visualizer

from detnas_mm.config_types import resolve_type
from detnas_mm.errors import DetNASError


class _Drawing(NamedTuple):
    """A library's visualizer and hook, and the settings with which the hook draws all test images."""

    visualizer: str
    hook: str
    settings: dict[str, Any]
    folder: str


_DRAWING = dict(
    mmdet=_Drawing('DetLocalVisualizer', 'DetVisualizationHook', dict(draw=True), 'test_out_dir'),
    mmpretrain=_Drawing('UniversalVisualizer', 'VisualizationHook', dict(enable=True, interval=1), 'out_dir'),
)


def add_drawing(cfg: Any) -> None:
    """Adds the visualizer and the drawing hook of a config's library, if missing; the hook stays inactive.

    mmdet's ``DetInferencer`` and ``tools/test.py --show-dir`` need them. Nothing is added if the model
    belongs to neither mmdet nor mmpretrain.

    Args:
        cfg: A whole config, changed in place.
    """
    library = _library(cfg)
    if library is None:
        return
    drawing = _DRAWING[library]
    if not cfg.get('visualizer'):
        cfg['visualizer'] = dict(
            type=f'{library}.{drawing.visualizer}', vis_backends=[dict(type='LocalVisBackend')]
        )  # without a name: Runners of equal name share a folder
    if not cfg.get('default_hooks'):
        cfg['default_hooks'] = {}
    if not cfg['default_hooks'].get('visualization'):
        cfg['default_hooks']['visualization'] = dict(type=f'{library}.{drawing.hook}')


def draw_into(cfg: Any, folder: str | Path) -> None:
    """Makes a test draw the predictions for all its images into a folder.

    Args:
        cfg: A whole config, changed in place.
        folder: Made if missing.

    Raises:
        DetNASError: If the model belongs to neither mmdet nor mmpretrain.
    """
    library = _library(cfg)
    if library is None:
        raise DetNASError(
            f'--show-dir needs a model of mmdet or mmpretrain; that of {cfg.filename} is of neither: leave it out.'
        )
    if resolve_type(cfg.get('visualizer') or {}, VISUALIZERS, cfg.get('default_scope')) is Visualizer:
        cfg['visualizer'] = None  # mmengine's own, which draws no predictions
    add_drawing(cfg)
    drawing = _DRAWING[library]
    cfg['default_hooks']['visualization'] |= drawing.settings | {drawing.folder: str(Path(folder).absolute())}


def _library(cfg: Any) -> str | None:
    """Returns the library of a config's model or of its base class."""
    model = resolve_type(cfg.get('model') or {}, MODELS, cfg.get('default_scope'))
    packages = [base.__module__.partition('.')[0] for base in getmro(model)] if isclass(model) else []
    return next((package for package in packages if package in _DRAWING), None)


def dataset_meta(cfg: Any, parts: tuple[str, ...], read: bool = False) -> dict[str, Any]:
    """Returns names and colours of a config's classes, as mmengine writes them to checkpoints.

    Args:
        cfg: A whole config.
        parts: Keys of dataloaders; the first one with classes is used.
        read: Whether data sets may be read whose classes are folder names. Defaults to False.

    Returns:
        ``classes`` and, where the set has them, ``palette``; plain values. Empty if no set has classes.
    """
    for part in parts:
        node = cfg.get(part)
        while isinstance(node, Mapping) and ('dataset' in node or node.get('datasets')):  # a loader or a wrapper
            node = node['dataset'] if 'dataset' in node else node['datasets'][0]
        found = _metainfo(node, cfg.get('default_scope'), read)
        classes, palette = found.get('classes'), found.get('palette')
        if isinstance(classes, (list, tuple)) and classes:
            colours = palette if isinstance(palette, str) else np.asarray(() if palette is None else palette).tolist()
            enough = isinstance(colours, str) or len(colours) >= len(classes)
            return dict(classes=tuple(map(str, classes))) | (dict(palette=colours) if colours and enough else {})
    return {}


def _metainfo(node: Any, scope: str | None, read: bool) -> Mapping[str, Any]:
    """Returns a set's metainfo; empty if it cannot be built, which is an error where it is used."""
    if not isinstance(node, Mapping):
        return getattr(node, 'metainfo', {})
    try:
        with DefaultScope.overwrite_default_scope(scope):
            dataset = DATASETS.build(copy.deepcopy(dict(node)) | dict(lazy_init=True, pipeline=[]))
            if read and not dataset.metainfo.get('classes'):
                dataset.full_init()
        return dataset.metainfo
    except Exception:  # whatever the set's class raises
        return {}
