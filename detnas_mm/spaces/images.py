"""Channels of images: what nets, spaces and configs say of them, held against one another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detnas_mm.checks import whole
from detnas_mm.config_types import nodes, type_name
from detnas_mm.errors import DetNASError

#: Channels of the images where nothing is said.
RGB = 3
#: What LoadImageFromFile makes of any image, by its color_type; 'unchanged' leaves it as it is.
_CHANNELS = {'color': RGB, 'color_ignore_orientation': RGB, 'grayscale': 1}
_READERS = {RGB: "color_type='color'", 1: "color_type='grayscale'"}
_OTHERS = "color_type='unchanged', or another transform"
_DATA = ('train_dataloader', 'val_dataloader', 'test_dataloader', 'search')


def agreed_channels(given: int | None, own: int | None) -> int:
    """Returns the channels of the images that two places agree on: either may be None, which says nothing.

    Args:
        given: The argument ``in_channels``.
        own: What the space or the structure says that stands beside it.

    Raises:
        ValueError: If one is no whole number of at least 1, or they differ.
    """
    said = [whole('in_channels', value, 1) for value in (given, own) if value is not None]
    if len(set(said)) > 1:
        raise DetNASError(f'in_channels={given}, and the space or structure has in_channels={own}: give both the same.')
    return said[0] if said else RGB


def unless_rgb(in_channels: int) -> dict[str, int]:
    """Returns what specs and configs say of the channels of images: nothing where they are 3."""
    return {} if in_channels == RGB else dict(in_channels=in_channels)


def check_images(cfg: Mapping[str, Any], in_channels: int | None = None, name: str | None = None) -> None:
    """Checks that backbone, preprocessor and pipelines of a config agree on the channels of images.

    Args:
        cfg: A config of mmdet or mmpretrain.
        in_channels: Those of the search space; None for what the config's backbone says.
        name: Of the config, where it is another one than the job's own.

    Raises:
        DetNASError: If they differ; names both places.
    """
    of = '' if name is None else f' of {name}'
    model = cfg.get('model') or {}
    backbone = model.get('backbone') or {}
    space = backbone.get('space')
    own = backbone.get('in_channels', space.get('in_channels') if isinstance(space, Mapping) else None)
    where = f'model.backbone{of}'
    if in_channels is not None:
        where = 'search.space'
        if own not in (None, in_channels):
            raise DetNASError(
                f'search.space has in_channels={in_channels!r}, and model.backbone{of} in_channels={own!r}: give both '
                f'the same.'
            )
        own = in_channels
    if own is None:
        return
    preprocessor = model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    for key in ('mean', 'std'):
        values = preprocessor.get(key)
        if isinstance(values, (list, tuple)) and len(values) not in (1, own):
            raise DetNASError(
                f'data_preprocessor.{key}{of} has {len(values)} values, and {where} in_channels={own}: give it one '
                f'value{"" if own == 1 else f", or {own}"}, or set in_channels={len(values)}.'
            )
    for key in ('bgr_to_rgb', 'rgb_to_bgr'):
        if own != RGB and preprocessor.get(key):
            raise DetNASError(
                f'data_preprocessor.{key}{of} reorders the channels of images that have 3, and {where} has '
                f'in_channels={own}: set {key}=False.'
            )
    for key in _DATA:
        for node in nodes(cfg.get(key)):
            color = node.get('color_type', 'color')
            if type_name(node.get('type')) == 'LoadImageFromFile' and _CHANNELS.get(color, own) != own:
                raise DetNASError(
                    f'{key}{of}: LoadImageFromFile with color_type={color!r} reads {_CHANNELS[color]} channels, and '
                    f'{where} has in_channels={own}: give it {_READERS.get(own, _OTHERS)}.'
                )
