"""Cost models: MACs, parameters, memory or latency of an architecture, without building the network."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detnas_mm.errors import ChecksInput, DetNASError
from detnas_mm.spaces import Architecture


class CostModel(ChecksInput, ABC):
    """Gives a number for every architecture of a space, without building the network.

    Attributes:
        name: Name in constraints and ledger rows, such as ``'macs'``.
        scope: One line that says what is counted, and at which input size.
        unit: Unit of the numbers in log lines, such as ``'ms'`` or ``'B'``; empty for counts.
        lazy: True if the numbers are in a file that is opened on first use: a search section can be parsed before the
            file exists.
        dear: True if a number takes seconds because a net is built or measured for it. Candidates are then checked
            against all other constraints first, and drawn one by one as they are needed.
    """

    name: str
    scope: str
    unit: str = ''
    lazy: bool = False
    dear: bool = False

    def setup(self, job: Any) -> None:
        """Prepares the cost; called once, before any number is computed. Does nothing by default.

        Args:
            job: The :class:`~detnas_mm.search.SearchJob`: its config, folder and log.

        Raises:
            ValueError: If the cost cannot serve this search.
        """

    def measure(self, archs: Sequence[Architecture]) -> None:
        """Measures new candidates together before they are evaluated, while nothing else runs. Does nothing by default.

        Args:
            archs: The candidates of a generation that have no row yet.
        """

    def failure(self, arch: Architecture) -> str | None:
        """Returns why an architecture could not be measured; None, the default, if it has a cost.

        The row of such a candidate has failed, and :meth:`totals` has NaN for it, which meets no constraint.
        """
        return None

    def forget(self, archs: Sequence[Architecture]) -> None:
        """Drops failures of architectures, so that they are measured again; most costs have none.

        Args:
            archs: Candidates whose failed rows are taken back.
        """

    def confirm(self, known: Mapping[Architecture, float]) -> None:
        """Compares costs with those of an earlier start when a search resumes; for costs with ``dear=True``.

        Args:
            known: Costs of architectures in the ledger.

        Raises:
            ValueError: If new costs would not be comparable with them.
        """

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Returns the settings that determine the costs, JSON-ready; ledgers are comparable only if they are equal."""

    @abstractmethod
    def totals(self, ids: np.ndarray) -> np.ndarray:
        """Returns the costs of many architectures.

        Args:
            ids: Integer array of shape (candidates, blocks), as :meth:`SearchSpace.encode` makes it.

        Returns:
            Array of shape (candidates,).
        """

    @abstractmethod
    def bounds(self) -> tuple[float, float]:
        """Returns the smallest and the largest cost in the space; infinity if the largest is not known beforehand."""

    def seen(self) -> list[float]:
        """Returns the costs of candidates so far, for costs whose :meth:`bounds` have no largest; empty by default."""
        return []

    def total(self, arch: Architecture | str | Sequence[int]) -> Any:
        """Returns the cost of one architecture; text is parsed by the space of this cost, if it has one.

        Raises:
            ValueError: If the text is not an architecture of that space, or the cost has no space.
        """
        space = getattr(self, 'space', None)
        if isinstance(arch, str):
            if space is None:
                raise DetNASError(
                    f'{type(self).__name__} {self.name!r} has no space, so it cannot parse the text {arch!r}. Give an '
                    f'Architecture: space.parse({arch!r}).'
                )
            arch = space.parse(arch)
        genes = arch.genes if isinstance(arch, Architecture) else tuple(arch)
        codes = np.asarray([genes]) if space is None else space.encode([Architecture(genes)])
        return self.totals(codes)[0].item()


class TableCost(CostModel):
    """A cost computed from a constant and one number for the choice at each position.

    Args:
        name: See :class:`CostModel`.
        scope: See :class:`CostModel`.
        table: One row for each position, with a number for each of its choices; rows may differ in length.
        constant: Part of the cost that is the same for every architecture.

    Attributes:
        table: Array of shape (positions, choices); shorter rows are padded with their last number.
        choices: Number of choices at each position.
    """

    def __init__(self, name: str, scope: str, table: Sequence[Any] | np.ndarray, constant: float = 0) -> None:
        self.name = name
        self.scope = scope
        self.choices = np.array([len(row) for row in table])
        widest = self.choices.max()
        self.table = np.stack([np.pad(row, (0, widest - len(row)), mode='edge') for row in table])
        self.constant = constant

    def checked(self, ids: np.ndarray) -> np.ndarray:
        """Checks that ids fit the table and returns them as an array.

        Raises:
            ValueError: If the array's shape or an id does not fit.
        """
        ids = np.asarray(ids)
        positions = len(self.choices)
        if ids.ndim != 2 or ids.shape[1] != positions or not np.issubdtype(ids.dtype, np.integer):
            raise DetNASError(
                f'ids must be an integer array of shape (candidates, {positions}); '
                f'got {ids.dtype} of shape {ids.shape}.'
            )
        wrong = np.flatnonzero(((ids < 0) | (ids >= self.choices)).any(axis=0))
        if len(wrong):
            raise DetNASError(
                f'At position {wrong[0]} ids must lie between 0 and {self.choices[wrong[0]] - 1}; got {ids.min()} to '
                f'{ids.max()}.'
            )
        return ids

    def spec(self) -> dict[str, Any]:
        """See :meth:`CostModel.spec`; the numbers are given as a digest."""
        numbers = self.table.tobytes() + repr((self.table.dtype.str, self.table.shape, self.constant)).encode()
        return dict(type=type(self).__name__, table=hashlib.sha256(numbers).hexdigest()[:16])

    @property
    def dtype(self) -> np.dtype:
        """Data type of the totals."""
        return np.result_type(self.table.dtype, type(self.constant))


class AdditiveTable(TableCost):
    """A cost that is a sum over positions: MACs, parameters, latency. Takes the arguments of :class:`TableCost`."""

    def __init__(self, name: str, scope: str, table: Sequence[Any] | np.ndarray, constant: float = 0) -> None:
        super().__init__(name, scope, table, constant)
        positions, choices = self.table.shape
        # Sums are tabulated for two positions at a time: half the look-ups, for 16 entries a pair.
        pairs = [self.table[i : i + 2] for i in range(0, positions, 2)]
        self._pairs = np.zeros((len(pairs), choices * choices), dtype=self.table.dtype)
        for row, pair in zip(self._pairs, pairs, strict=True):
            second = pair[1] if len(pair) == 2 else np.zeros_like(pair[0])
            row[:] = (pair[0][:, None] + second[None, :]).ravel()

    def totals(self, ids: np.ndarray) -> np.ndarray:
        """See :meth:`CostModel.totals`.

        Raises:
            ValueError: If the array's shape or an id does not fit the table.
        """
        ids = self.checked(ids)
        positions, choices = self.table.shape
        total = np.full(len(ids), self.constant, dtype=self.dtype)
        for row, first in enumerate(range(0, positions, 2)):
            # Index arithmetic in the platform's index type: narrow ids (uint8, int8) would overflow.
            index = np.multiply(ids[:, first], choices, dtype=np.intp)
            if first + 1 < positions:
                index = index + ids[:, first + 1]
            total += self._pairs[row].take(index)
        return total

    def bounds(self) -> tuple[float, float]:
        low = self.constant + self.table.min(axis=1).sum()
        high = self.constant + self.table.max(axis=1).sum()
        return low.item(), high.item()


class MaximumTable(TableCost):
    """A cost that is the maximum over positions: peak memory. Takes the arguments of :class:`TableCost`."""

    def totals(self, ids: np.ndarray) -> np.ndarray:
        """See :meth:`CostModel.totals`.

        Raises:
            ValueError: If the array's shape or an id does not fit the table.
        """
        ids = self.checked(ids)
        total = np.full(len(ids), self.constant, dtype=self.dtype)
        for position, row in enumerate(self.table):
            np.maximum(total, row.take(ids[:, position]), out=total)
        return total

    def bounds(self) -> tuple[float, float]:
        # The cheapest net has the smallest number at each position, and the largest of these is its cost.
        constant = self.dtype.type(self.constant)
        return max(constant, self.table.min(axis=1).max()).item(), max(constant, self.table.max()).item()
