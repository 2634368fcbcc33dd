"""Vectorised sums over the super-blocks of many structures, the common base of costs and entropy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from detnas_mm.errors import DetNASError
from detnas_mm.systems.mae_det.structure import stages


def halved(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Returns the output (height, width) of a convolution of this stride whose padding is half its kernel."""
    return -(-size[0] // stride), -(-size[1] // stride)


@dataclass(frozen=True)
class Place:
    """Position, stride and map sizes of the stem or a super-block.

    Attributes:
        number: 0 for the stem; super-blocks are numbered from 1.
        stage: 0 for the stem; every block of stride 2 begins a new stage.
        stride: 1 or 2.
        size_in: (height, width) of its input.
        size: (height, width) of its output.
        ends_stage: Whether its output is the output of the stage.
    """

    number: int
    stage: int
    stride: int
    size_in: tuple[int, int]
    size: tuple[int, int]
    ends_stage: bool


class Columns(NamedTuple):
    """Genes of structures with equal strides: one array of shape (candidates,) for each searched gene.

    Attributes:
        stem_kernel: Kernel of the stem, equal in all structures.
        strides: Strides of the stem and of every super-block, equal in all structures.
        widths: Output channels of the stem and of every super-block.
        kernels: Kernel of every super-block.
        depths: Number of bottlenecks of every super-block.
        bottlenecks: Inner channels of every super-block.
    """

    stem_kernel: int
    strides: tuple[int, ...]
    widths: list[np.ndarray]
    kernels: list[np.ndarray]
    depths: list[np.ndarray]
    bottlenecks: list[np.ndarray]

    def places(self, input_size: tuple[int, int]) -> list[Place]:
        """Returns the places of stem and super-blocks for images of this size."""
        return places(self.strides, input_size)


def places(strides: Sequence[int], input_size: tuple[int, int]) -> list[Place]:
    """Returns the places of stem and super-blocks; ``strides`` begins with the stem's."""
    found: list[Place] = []
    numbers = [0, *stages(strides[1:])]
    size = input_size
    for number, stride in enumerate(strides):
        ends = number + 1 == len(strides) or strides[number + 1] == 2
        found.append(Place(number, numbers[number], stride, size, halved(size, stride), ends))
        size = found[-1].size
    return found


def columns(codes: np.ndarray) -> Iterator[tuple[np.ndarray | slice, Columns]]:
    """Groups rows of genes by their strides, usually into a single group.

    Args:
        codes: Integer array of shape (candidates, 3 + 5 blocks), see :mod:`detnas_mm.systems.mae_det.structure`.

    Yields:
        The rows of a group (a slice or indices), and their columns.

    Raises:
        ValueError: If ``codes`` does not have that shape or type.
    """
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.shape[1] < 8 or (codes.shape[1] - 3) % 5 or not np.issubdtype(codes.dtype, np.integer):
        raise DetNASError(
            f'structures must be an integer array of shape (candidates, 3 + 5 blocks); got {codes.dtype} of shape '
            f'{codes.shape}.'
        )
    if not len(codes):
        return
    fixed = codes[:, [1, 2, *range(5, codes.shape[1], 5)]]
    if (fixed == fixed[0]).all():
        groups: list[np.ndarray | slice] = [slice(None)]
    else:
        kinds, inverse = np.unique(fixed, axis=0, return_inverse=True)
        groups = [np.flatnonzero(inverse.ravel() == kind) for kind in range(len(kinds))]
    for rows in groups:
        genes = list(np.ascontiguousarray(codes[rows].T))
        kernel, *strides = (int(gene[0]) for gene in (genes[1], genes[2], *genes[5::5]))
        yield rows, Columns(kernel, tuple(strides), [genes[0], *genes[3::5]], genes[4::5], genes[6::5], genes[7::5])


class BlockSum(ABC):
    """A value of a structure that is a sum over stem and bottlenecks.

    All bottlenecks of a super-block except the first are equal, so three terms suffice. Arguments and results are
    arrays that broadcast.

    Attributes:
        input_size: (height, width) of the images.
        per_bottleneck: The term of every bottleneck if it is a constant; else None.
    """

    input_size: tuple[int, int]
    per_bottleneck: int | None = None

    def knots(self, place: Place) -> Sequence[int]:
        """Returns the knots (inner channels, ascending) of terms that are piecewise functions; none by default.

        With knots, the terms are defined only from the first to the last of them.
        """
        return ()

    @abstractmethod
    def stem(self, place: Place, width: np.ndarray, kernel: int) -> np.ndarray:
        """Returns the term of the stem."""

    @abstractmethod
    def first(
        self, place: Place, cin: np.ndarray, cout: np.ndarray, kernel: np.ndarray, bottleneck: np.ndarray
    ) -> np.ndarray:
        """Returns the term of a super-block's first bottleneck, with everything that occurs once in a super-block."""

    @abstractmethod
    def rest(self, place: Place, cout: np.ndarray, kernel: np.ndarray, bottleneck: np.ndarray) -> np.ndarray:
        """Returns the term of each further bottleneck."""

    def totals(self, codes: np.ndarray) -> np.ndarray:
        """Returns the values of many structures.

        Args:
            codes: See :func:`columns`.

        Returns:
            Array of shape (candidates,).
        """
        parts = []
        for rows, genes in columns(codes):
            stem, *others = genes.places(self.input_size)
            total = self.stem(stem, genes.widths[0], genes.stem_kernel)
            for b, place in enumerate(others):
                cin, cout, kernel, btn = genes.widths[b], genes.widths[b + 1], genes.kernels[b], genes.bottlenecks[b]
                total = total + self.first(place, cin, cout, kernel, btn)
                total = total + (genes.depths[b] - 1) * self.rest(place, cout, kernel, btn)
            parts.append((rows, total))
        out = np.empty(len(codes), dtype=parts[0][1].dtype if parts else float)
        for rows, total in parts:
            out[rows] = total
        return out
