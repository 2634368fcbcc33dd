"""Measures each choice at each position of a supernet's space. Imports torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from detnas_mm.errors import DetNASError
from detnas_mm.latency.inputs import Run, settled
from detnas_mm.latency.subject import LatencySubject
from detnas_mm.models import find_supernet
from detnas_mm.models.subnet import extract_subnet
from detnas_mm.spaces import Architecture, ChoiceSpace

#: Number of measured paths that hold each choice at each position.
PATHS_PER_CHOICE = 4


def covering_paths(space: ChoiceSpace, times: int, rng: np.random.Generator) -> list[Architecture]:
    """Draws random paths in which all choices of a position are equally frequent.

    Args:
        space: The space.
        times: Paths that hold each choice, at the positions with most choices; more at others.
        rng: Draws the paths.
    """
    found: list[Architecture] = []
    most = max(space.choices)
    for _ in range(times):
        columns = [rng.permutation(most) % choices for choices in space.choices]
        found += [Architecture(tuple(map(int, genes))) for genes in zip(*columns, strict=True)]
    return found


class ChoiceSubject(LatencySubject):
    """Measures the table of :class:`~detnas_mm.latency.LatencyTable` in paths that are cut out of a supernet.

    BN statistics of each net are computed on the inputs, since the time of post-processing depends on the number of
    boxes. Takes the arguments of :class:`LatencySubject`; the space must be a :class:`ChoiceSpace`.
    """

    parts = ('backbone', 'detector')
    needs_model = True

    def setup(self) -> None:
        """See :meth:`LatencySubject.setup`."""
        if not isinstance(self.space, ChoiceSpace):
            raise DetNASError(
                f'A table of choices needs a space with one choice at each position; this supernet has {self.space!r}.'
            )
        self.supernet = find_supernet(self.model)
        self.supernet.check_space(self.space)
        self.batch = self.inputs.batch(self.model)
        self.model_name = type(self.model if self.inputs.part == 'detector' else self.supernet).__name__

    @abstractmethod
    def modules(self, net: Any) -> Sequence[nn.Module]:
        """Returns the stem of a fixed net, then its module at each position."""

    def nets_to_check(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        drawn: dict[Architecture, None] = {}
        while len(drawn) < min(count, self.space.size):
            drawn[self.space.sample(rng)] = None
        return list(drawn)

    def _cut_out(self, arch: Architecture) -> nn.Module:
        return settled(extract_subnet(self.supernet, arch, self.backbone or {}), self.batch)

    def net(self, arch: Architecture) -> Run:
        return self.inputs.run(self.model, self._cut_out(arch))

    def table_nets(self, rng: np.random.Generator) -> dict[Hashable, tuple[Run, Sequence[nn.Module]]]:
        self.paths = covering_paths(self.space, PATHS_PER_CHOICE, rng)
        nets = [self._cut_out(arch) for arch in self.paths]
        return {number: (self.inputs.run(self.model, net), self.modules(net)) for number, net in enumerate(nets)}

    def cells(self, samples: Mapping[Hashable, np.ndarray]) -> dict[str, Any]:
        """See :meth:`LatencySubject.cells`: means over the paths that hold a choice; constants over all paths."""
        seconds = np.stack([samples[number] for number in range(len(self.paths))])  # (paths, rounds, parts)
        genes = self.space.encode(self.paths)
        table = [
            np.stack([seconds[genes[:, position] == one, :, 2 + position].mean(axis=0) for one in range(choices)], 1)
            for position, choices in enumerate(self.space.choices)
        ]
        before, stem, after = (seconds[:, :, part].mean(axis=0) for part in (0, 1, -1))
        return dict(table=table, constant=dict(before=before, stem=stem, after=after))

    def sums(self, cells: Mapping[str, Any], archs: Sequence[Architecture]) -> np.ndarray:
        constant = sum(cells['constant'].values())
        return np.array([constant + sum(row[g] for row, g in zip(cells['table'], arch.genes)) for arch in archs])
