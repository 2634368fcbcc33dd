"""Channels of images: checks that nets, spaces and configs agree on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detnas_mm.checks import whole
from detnas_mm.config_types import nodes, type_name
from detnas_mm.errors import DetNASError

#: Channels of the images where none are given.
RGB = 3
#: Channels that LoadImageFromFile returns, by color_type; 'unchanged' keeps those of the file.
_CHANNELS = {'color': RGB, 'color_ignore_orientation': RGB, 'grayscale': 1}
_READERS = {RGB: "color_type='color'", 1: "color_type='grayscale'"}
_OTHERS = "color_type='unchanged', or another transform"
_DATA = ('train_dataloader', 'val_dataloader', 'test_dataloader', 'search')


def agreed_channels(given: int | None, own: int | None) -> int:
    """Returns the number of image channels that two sources agree on; None, from either, means not given.

    Args:
        given: The argument ``in_channels``.
        own: The number of the space or the structure that is given with it.

    Raises:
        ValueError: If one is not a whole number of at least 1, or they differ.
    """
    said = [whole('in_channels', value, 1) for value in (given, own) if value is not None]
    if len(set(said)) > 1:
        raise DetNASError(f'in_channels={given}, but the space or structure has in_channels={own}: set both alike.')
    return said[0] if said else RGB


def unless_rgb(in_channels: int) -> dict[str, int]:
    """Returns the entry ``in_channels`` for specs and configs: empty for 3 channels, which is the default."""
    return {} if in_channels == RGB else dict(in_channels=in_channels)


def backbone_channels(model: Mapping[str, Any]) -> int | None:
    """Returns the channels of images that the backbone of a model config takes; None if it does not say so."""
    backbone = model.get('backbone') or {}
    space = backbone.get('space')
    own: int | None = backbone.get('in_channels', space.get('in_channels') if isinstance(space, Mapping) else None)
    return own


def check_images(cfg: Mapping[str, Any], in_channels: int | None = None, name: str | None = None) -> None:
    """Raises unless backbone, preprocessor and pipelines of a config agree on the channels of images.

    Args:
        cfg: A config of mmdet or mmpretrain.
        in_channels: Channels of the search space; None takes those of the config's backbone.
        name: Name of the config, for messages, if it is not the job's own.

    Raises:
        DetNASError: If they differ; the message names both places.
    """
    of = '' if name is None else f' of {name}'
    model = cfg.get('model') or {}
    own = backbone_channels(model)
    where = f'model.backbone{of}'
    if in_channels is not None:
        where = 'search.space'
        if own not in (None, in_channels):
            raise DetNASError(
                f'search.space has in_channels={in_channels!r}, but model.backbone{of} has in_channels={own!r}: set '
                f'both to one number.'
            )
        own = in_channels
    if own is None:
        return
    preprocessor = model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    for key in ('mean', 'std'):
        values = preprocessor.get(key)
        if isinstance(values, (list, tuple)) and len(values) not in (1, own):
            raise DetNASError(
                f'data_preprocessor.{key}{of} has {len(values)} values, but {where} has in_channels={own}: give it one '
                f'value{"" if own == 1 else f", or {own}"}, or set in_channels={len(values)}.'
            )
    for key in ('bgr_to_rgb', 'rgb_to_bgr'):
        if own != RGB and preprocessor.get(key):
            raise DetNASError(
                f'data_preprocessor.{key}{of} swaps channels, which needs images of 3, but {where} has '
                f'in_channels={own}: set {key}=False.'
            )
    for key in _DATA:
        for node in nodes(cfg.get(key)):
            color = node.get('color_type', 'color')
            if type_name(node.get('type')) == 'LoadImageFromFile' and _CHANNELS.get(color, own) != own:
                raise DetNASError(
                    f'{key}{of}: LoadImageFromFile with color_type={color!r} returns {_CHANNELS[color]} channels, but '
                    f'{where} has in_channels={own}: use {_READERS.get(own, _OTHERS)}.'
                )
