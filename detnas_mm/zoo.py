"""Table of published architectures, filled by the ``zoo.py`` of systems.

Totals are counted on the nets that this package builds (``tests/test_zoo.py``) and equal the figures of the papers or
the authors' code where they give any.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from detnas_mm.errors import DetNASError
from detnas_mm.registry import system_modules
from detnas_mm.spaces import Architecture, SearchSpace
from detnas_mm.spaces.images import RGB


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published network.

    Attributes:
        name: Name in configs.
        space: Argument of ``space_type`` for the space it was found in.
        arch: The architecture, as :meth:`SearchSpace.parse` reads it.
        params: Learnable parameters of the backbone, without the classification head.
        macs: Multiply-adds of the backbone's convolutions at ``input_size``.
        source: Where the architecture was published.
        space_type: The class of its space.
        input_size: (height, width) in pixels.
    """

    name: str
    space: str
    arch: str
    params: int
    macs: int
    source: str
    space_type: Callable[[str], SearchSpace]
    input_size: tuple[int, int] = (224, 224)

    def check_channels(self, in_channels: int) -> None:
        """Raises if images do not have the 3 channels that it was published for.

        Raises:
            DetNASError: If ``in_channels`` is not 3.
        """
        if in_channels != RGB:
            raise DetNASError(
                f'{self.name!r} is a published net for images of {RGB} channels; got '
                f'in_channels={in_channels}. Write the architecture instead: arch={self.arch!r}.'
            )

    def build_space(self) -> SearchSpace:
        """Builds the search space of the architecture."""
        return self.space_type(self.space)

    def architecture(self) -> Architecture:
        """Parses the architecture with its space."""
        return self.build_space().parse(self.arch)


_NETS: dict[str, Published] = {}


def add(*published: Published) -> None:
    """Adds networks to the table.

    Raises:
        ValueError: If a name is taken by another network.
    """
    for net in published:
        if _NETS.setdefault(net.name, net) != net:
            raise DetNASError(
                f'{net.name!r} is already the name of another published network: {_NETS[net.name]}. Use another name.'
            )


def nets() -> dict[str, Published]:
    """Returns all published networks by name."""
    for module in system_modules('zoo'):
        import_module(module)
    return dict(_NETS)


def get(name: str, space_type: Any = None) -> Any:
    """Returns the published network of that name.

    Args:
        name: See :func:`nets`.
        space_type: Restricts networks to this class of spaces. Defaults to any.

    Raises:
        ValueError: If there is none. The message lists all names.
    """
    known = {key: net for key, net in nets().items() if space_type in (None, net.space_type)}
    if name not in known:
        raise DetNASError(f'No published network is named {name!r}. Names: {", ".join(known)}.')
    return known[name]
