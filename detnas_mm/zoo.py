"""Published architectures, as data: a table that systems fill from their ``zoo.py``.

Totals are counted on the nets that this package builds (``tests/test_zoo.py``); where the papers or the authors'
code state a figure, it is the same.
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
        name: How configs call it.
        space: The space it was found in, as ``space_type`` takes it.
        arch: The architecture, as :meth:`SearchSpace.parse` reads it.
        params: Learnable parameters of the backbone, without what classification adds.
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
        """Refuses images that it was not published for.

        Raises:
            DetNASError: If they have another number of channels than 3.
        """
        if in_channels != RGB:
            raise DetNASError(
                f'{self.name!r} is a published net, which takes images of {RGB} channels; got '
                f'in_channels={in_channels}. Write the architecture out: arch={self.arch!r}.'
            )

    def build_space(self) -> SearchSpace:
        """The search space that the architecture belongs to."""
        return self.space_type(self.space)

    def architecture(self) -> Architecture:
        """The architecture as a member of its space."""
        return self.build_space().parse(self.arch)


_NETS: dict[str, Published] = {}


def add(*published: Published) -> None:
    """Adds networks to the table.

    Raises:
        ValueError: If a name is taken by another network.
    """
    for net in published:
        if _NETS.setdefault(net.name, net) != net:
            raise DetNASError(f'{net.name!r} is the name of another published network: {_NETS[net.name]}.')


def nets() -> dict[str, Published]:
    """All published networks by name."""
    for module in system_modules('zoo'):
        import_module(module)
    return dict(_NETS)


def get(name: str, space_type: Any = None) -> Any:
    """The published network of that name.

    Args:
        name: See :func:`nets`.
        space_type: Only networks of this class of spaces. Defaults to any.

    Raises:
        ValueError: If there is none; lists those there are.
    """
    known = {key: net for key, net in nets().items() if space_type in (None, net.space_type)}
    if name not in known:
        raise DetNASError(f'No published network is called {name!r}. There are: {", ".join(known)}.')
    return known[name]
