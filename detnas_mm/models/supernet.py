"""Base class of supernets: backbones with an active path."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Hashable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from mmengine.model import BaseModule, is_model_wrapper
from torch import nn

from detnas_mm.errors import DetNASError
from detnas_mm.models.backbone import Backbone
from detnas_mm.spaces import Architecture, SearchSpace
from detnas_mm.spaces.images import RGB


class Segment(NamedTuple):
    """A part of a path; the backbone runs its segments one after another.

    Attributes:
        key: Identifies the computation: paths with equal keys up to a segment compute the same up to there.
        module: Runs on the output of the segment before.
        keep: True if its output is one of the backbone's outputs; a tuple counts as several.
    """

    key: Hashable
    module: nn.Module
    keep: bool


class Supernet(BaseModule):
    """A backbone with the weights of all nets of a search space; it runs one of them at a time.

    Attributes:
        space: The search space.
    """

    space: SearchSpace
    _active_path: Architecture | None = None

    @property
    def active_path(self) -> Architecture | None:
        """The path that ``forward`` runs; None until :meth:`set_path` is called."""
        return self._active_path

    def set_path(self, path: Architecture | str | Sequence[int] | None) -> None:
        """Sets the active path; None removes it.

        Raises:
            ValueError: If the path is not a member of the space.
        """
        self._active_path = None if path is None else self.space.parse(path)

    def check_space(self, space: SearchSpace) -> None:
        """Raises if a search space is not the supernet's.

        Raises:
            DetNASError: If they differ. The message gives both.
        """
        own, theirs = self.space, space
        if own.in_channels != theirs.in_channels:
            raise DetNASError(
                f'search.space has in_channels={theirs.in_channels}, the supernet has in_channels={own.in_channels}: '
                f'set both to one number.'
            )
        if own.spec() != theirs.spec():
            raise DetNASError(
                f"search.space is {theirs.spec()}, but the supernet's space is {own.spec()}. Set both alike."
            )

    def _require_path(self) -> Architecture:
        if self._active_path is None:
            raise DetNASError(
                f'{type(self).__name__} has no active path. Call set_path(…), for example '
                f'set_path({self.space.describe(self.space.sample(np.random.default_rng(0)))!r}); in training add '
                f"custom_hooks = [dict(type='detnas_mm.PathSamplingHook')] to the config."
            )
        return self._active_path

    @abstractmethod
    def segments(self, path: Architecture) -> list[Segment]:
        """Returns the segments that ``forward`` runs on that path, in order."""

    @staticmethod
    @abstractmethod
    def subnet_key(key: str, path: Architecture) -> str | None:
        """Translates a key of the supernet's state dict to the fixed net's; None if the path does not use it."""

    def subnet_metadata(self, path: Architecture) -> dict[str, Any]:
        """Returns the ``_metadata`` of the fixed net's state dict (torch's versions of modules); {} by default."""
        return {}

    @classmethod
    def has_path(cls, keys: Collection[str], path: Architecture) -> bool:
        """Returns True if the keys of a state dict can be those of such a supernet whose space contains that path.

        For callers with a state dict but without a supernet, and so without a space. By default at least one key must
        be renamed or removed in the fixed net. A supernet whose keys all stay the same overrides this and looks for
        keys that it always has.
        """
        return any(cls.subnet_key(key, path) != key for key in keys)


def image_channels(net: nn.Module) -> int:
    """Returns the number of image channels of a net: those of a backbone of this package, else 3.

    Args:
        net: A backbone, or a model with one.
    """
    backbone = getattr(net, 'backbone', net)
    if isinstance(backbone, Backbone):
        return backbone.in_channels
    return (isinstance(backbone, Supernet) and backbone.space.in_channels) or RGB


def find_supernet(model: nn.Module) -> Supernet:
    """Returns the only supernet inside a model, which may be wrapped for distributed training.

    Raises:
        ValueError: If there is none, or more than one.
    """
    if is_model_wrapper(model):
        model = cast(nn.Module, model.module)
    found = [m for m in model.modules() if isinstance(m, Supernet)]
    if len(found) != 1:
        raise DetNASError(
            f'{len(found)} supernets found in {type(model).__name__}; it must be exactly one. '
            'Use a config whose backbone is a supernet.'
        )
    return found[0]
