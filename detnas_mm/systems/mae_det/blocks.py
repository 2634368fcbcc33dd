"""Sums over the super-blocks of structures, for many structures at a time: what costs and entropy have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from detnas_mm.errors import DetNASError
from detnas_mm.systems.mae_det.structure import stages


def halved(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """(height, width) behind a convolution of this stride whose padding is half its kernel."""
    return -(-size[0] // stride), -(-size[1] // stride)


@dataclass(frozen=True)
class Place:
    """Where the stem or a super-block stands.

    Attributes:
        number: 0 is the stem, super-blocks count from 1.
        stage: 0 is the stem's; every block of stride 2 begins a new one.
        stride: 1 or 2.
        size_in: (height, width) of its input.
        size: (height, width) of its output.
        ends_stage: Whether the output is the stage's.
    """

    number: int
    stage: int
    stride: int
    size_in: tuple[int, int]
    size: tuple[int, int]
    ends_stage: bool


class Columns(NamedTuple):
    """Genes of structures that share their strides: one array of shape (candidates,) for each gene that is searched.

    Attributes:
        stem_kernel: One for all.
        strides: Of the stem, then of every super-block; the same for all.
        widths: Of the stem, then of every super-block.
        kernels: Of every super-block, like the two that follow.
        depths: Bottlenecks.
        bottlenecks: Inner channels.
    """

    stem_kernel: int
    strides: tuple[int, ...]
    widths: list[np.ndarray]
    kernels: list[np.ndarray]
    depths: list[np.ndarray]
    bottlenecks: list[np.ndarray]

    def places(self, input_size: tuple[int, int]) -> list[Place]:
        """Where stem and super-blocks stand, for images of this size."""
        return places(self.strides, input_size)


def places(strides: Sequence[int], input_size: tuple[int, int]) -> list[Place]:
    """Where stem and super-blocks stand; ``strides`` has the stem's first."""
    found: list[Place] = []
    numbers = [0, *stages(strides[1:])]
    size = input_size
    for number, stride in enumerate(strides):
        ends = number + 1 == len(strides) or strides[number + 1] == 2
        found.append(Place(number, numbers[number], stride, size, halved(size, stride), ends))
        size = found[-1].size
    return found


def columns(codes: np.ndarray) -> Iterator[tuple[np.ndarray | slice, Columns]]:
    """Splits rows of genes by their strides, of which there is mostly one kind.

    Args:
        codes: Integer array of shape (candidates, 3 + 5 blocks), see :mod:`detnas_mm.systems.mae_det.structure`.

    Yields:
        Which rows, and their columns.

    Raises:
        ValueError: If it is no such array.
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
    """A value of a structure that adds up over stem and bottlenecks.

    All bottlenecks of a super-block but the first are alike, so three terms say all. Widths and bottlenecks come as
    arrays of integers that numpy broadcasts; so do results.

    Attributes:
        input_size: (height, width) of the images.
        per_bottleneck: What every bottleneck adds, if that is the same for all; else None.
    """

    input_size: tuple[int, int]
    per_bottleneck: int | None = None

    def knots(self, place: Place) -> Sequence[int]:
        """Bottlenecks, ascending, where a super-block's terms go over from one formula to another; none by default.

        Only between the first and the last of them, if there are any, are its terms known.
        """
        return ()

    @abstractmethod
    def stem(self, place: Place, width: np.ndarray, kernel: int) -> np.ndarray:
        """The term of the stem."""

    @abstractmethod
    def first(
        self, place: Place, cin: np.ndarray, cout: np.ndarray, kernel: np.ndarray, bottleneck: np.ndarray
    ) -> np.ndarray:
        """The term of a super-block's first bottleneck, with all that the block has once."""

    @abstractmethod
    def rest(self, place: Place, cout: np.ndarray, kernel: np.ndarray, bottleneck: np.ndarray) -> np.ndarray:
        """The term of each further bottleneck."""

    def totals(self, codes: np.ndarray) -> np.ndarray:
        """Values of many structures.

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
