"""What every supernet offers: a path in force."""

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
    """A part of a path: modules that run one after another make the backbone.

    Attributes:
        key: Two paths whose keys are equal up to a segment compute the same up to there.
        module: What runs on the output of the segment before.
        keep: Whether its output is one of the backbone's; a tuple is several.
    """

    key: Hashable
    module: nn.Module
    keep: bool


class Supernet(BaseModule):
    """A backbone that holds all nets of a search space and runs one of them at a time.

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
        """Puts a path in force, or with None takes it away.

        Raises:
            ValueError: If the path is no member of the space.
        """
        self._active_path = None if path is None else self.space.parse(path)

    def check_space(self, space: SearchSpace) -> None:
        """Refuses a search space that is not the supernet's.

        Raises:
            DetNASError: If they differ; names both.
        """
        own, theirs = self.space, space
        if own.in_channels != theirs.in_channels:
            raise DetNASError(
                f'search.space has in_channels={theirs.in_channels}, and the supernet in_channels={own.in_channels}: '
                f'give both the same.'
            )
        if own.spec() != theirs.spec():
            raise DetNASError(
                f"The search's space is not the supernet's: {theirs.spec()} and {own.spec()}. Give both the same."
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
        """What ``forward`` runs on that path, in the order it runs."""

    @staticmethod
    @abstractmethod
    def subnet_key(key: str, path: Architecture) -> str | None:
        """What a key of the supernet's state dict is called in the fixed net; None if the path does not have it."""

    def subnet_metadata(self, path: Architecture) -> dict[str, Any]:
        """Returns what torch keeps of the fixed net beside its state dict, for the net that loads it; {} by default."""
        return {}

    @classmethod
    def has_path(cls, keys: Collection[str], path: Architecture) -> bool:
        """Whether the keys of a state dict can be those of such a supernet whose space holds that path.

        For callers that have a state dict and no supernet, thus no space, at hand. By default some key must be called
        otherwise in the fixed net, or be left out there. A supernet whose keys all stay as they are overrides this, and
        looks for keys that it always has.
        """
        return any(cls.subnet_key(key, path) != key for key in keys)


def image_channels(net: nn.Module) -> int:
    """Returns how many channels the images of a net have: what backbones of this package say, else 3.

    Args:
        net: A backbone, or a model with one.
    """
    backbone = getattr(net, 'backbone', net)
    if isinstance(backbone, Backbone):
        return backbone.in_channels
    return (isinstance(backbone, Supernet) and backbone.space.in_channels) or RGB


def find_supernet(model: nn.Module) -> Supernet:
    """The one supernet inside a model, wrapped for distributed training or not.

    Raises:
        ValueError: If there is none, or more than one.
    """
    if is_model_wrapper(model):
        model = cast(nn.Module, model.module)
    found = [m for m in model.modules() if isinstance(m, Supernet)]
    if len(found) != 1:
        raise DetNASError(
            f'{len(found)} supernets found in {type(model).__name__}; exactly one is needed. '
            'Give a config whose backbone is one.'
        )
    return found[0]
