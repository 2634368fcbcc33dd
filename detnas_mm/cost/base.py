"""What an architecture costs."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detnas_mm.errors import DetNASError
from detnas_mm.spaces import Architecture


class CostModel(ABC):
    """A number for every architecture of a space, without building the network.

    Attributes:
        name: What constraints and ledger rows call it, such as ``'macs'``.
        scope: One line that says what is counted, at which input size.
        unit: Of its numbers in log lines, such as ``'ms'`` or ``'B'``; empty for counts.
        lazy: Whether its numbers are in a file that is opened on first use: a search section can then be parsed before
            the file is there.
        dear: Whether a number takes seconds, since a net is built or measured for it: candidates are then held against
            all other constraints before those on this cost, and drawn one by one as they are needed.
    """

    name: str
    scope: str
    unit: str = ''
    lazy: bool = False
    dear: bool = False

    def setup(self, job: Any) -> None:  # noqa: B027
        """Called before the first cost is asked for; most costs need nothing of the search but its space.

        Args:
            job: The :class:`~detnas_mm.search.SearchJob`: its config, folder and log.

        Raises:
            ValueError: If something does not fit.
        """

    def measure(self, archs: Sequence[Architecture]) -> None:  # noqa: B027
        """Measures candidates together before they are evaluated, while nothing else runs; most costs need not.

        Args:
            archs: The candidates of a generation that have no row yet.
        """

    def failure(self, arch: Architecture) -> str | None:
        """Returns why an architecture could not be measured; None, the default, if it has a cost.

        The row of such a candidate has failed, and :meth:`totals` has NaN for it, which meets no constraint.
        """
        return None

    def forget(self, archs: Sequence[Architecture]) -> None:  # noqa: B027
        """Drops failures of architectures, so that they are measured again; most costs have none.

        Args:
            archs: Candidates whose failed rows are taken back.
        """

    def confirm(self, known: Mapping[Architecture, float]) -> None:  # noqa: B027
        """Called when a search resumes, before more is evaluated; for costs that are dear.

        Args:
            known: What its ledger says that architectures cost.

        Raises:
            ValueError: If new costs could not be compared with them.
        """

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """What decides the costs, JSON-ready: ledgers of unequal ones are not compared."""

    @abstractmethod
    def totals(self, ids: np.ndarray) -> np.ndarray:
        """Costs of many architectures.

        Args:
            ids: Integer array of shape (candidates, blocks), as :meth:`SearchSpace.encode` makes it.

        Returns:
            Array of shape (candidates,).
        """

    @abstractmethod
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest cost in the space; infinity where the largest is not known beforehand."""

    def seen(self) -> list[float]:
        """What candidates have cost so far, where :meth:`bounds` does not know the largest; empty by default."""
        return []

    def total(self, arch: Architecture | str | Sequence[int]) -> Any:
        """The cost of one architecture; a text is read by the space of this cost, if it has one.

        Raises:
            ValueError: If a text is no architecture of that space, or there is no space to read it by.
        """
        space = getattr(self, 'space', None)
        if isinstance(arch, str):
            if space is None:
                raise DetNASError(
                    f'{type(self).__name__} {self.name!r} has no space to read the text {arch!r} by. Give an '
                    f'Architecture: space.parse({arch!r}).'
                )
            arch = space.parse(arch)
        genes = arch.genes if isinstance(arch, Architecture) else tuple(arch)
        codes = np.asarray([genes]) if space is None else space.encode([Architecture(genes)])
        return self.totals(codes)[0].item()


class TableCost(CostModel):
    """A cost that is made of a constant and of one number for the choice taken at every position.

    Args:
        name: See :class:`CostModel`.
        scope: See :class:`CostModel`.
        table: A row of numbers for every position, one for each of its choices; rows may differ in length.
        constant: What every architecture pays.

    Attributes:
        table: Array of shape (positions, choices); shorter rows are filled up with their last number.
        choices: How many choices every position has.
    """

    def __init__(self, name: str, scope: str, table: Sequence[Any] | np.ndarray, constant: float = 0) -> None:
        self.name = name
        self.scope = scope
        self.choices = np.array([len(row) for row in table])
        widest = self.choices.max()
        self.table = np.stack([np.pad(row, (0, widest - len(row)), mode='edge') for row in table])
        self.constant = constant

    def checked(self, ids: np.ndarray) -> np.ndarray:
        """The ids, if they fit the table.

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
                f'At position {wrong[0]} ids must lie in 0–{self.choices[wrong[0]] - 1}; got {ids.min()} to '
                f'{ids.max()}.'
            )
        return ids

    def spec(self) -> dict[str, Any]:
        """See :meth:`CostModel.spec`: a digest of the numbers, which decide all."""
        numbers = self.table.tobytes() + repr((self.table.dtype.str, self.table.shape, self.constant)).encode()
        return dict(type=type(self).__name__, table=hashlib.sha256(numbers).hexdigest()[:16])

    @property
    def dtype(self) -> np.dtype:
        """Type of the totals."""
        return np.result_type(self.table.dtype, type(self.constant))


class AdditiveTable(TableCost):
    """A cost that adds up: MACs, parameters, latency. Takes the arguments of :class:`TableCost`."""

    def __init__(self, name: str, scope: str, table: Sequence[Any] | np.ndarray, constant: float = 0) -> None:
        super().__init__(name, scope, table, constant)
        positions, choices = self.table.shape
        # The table's columns are tabulated two positions at a time: half the look-ups, for a table of 16 a pair.
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
    """A cost that is the largest of its parts: peak memory. Takes the arguments of :class:`TableCost`."""

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
        # The dearest position decides, so the cheapest net pays the largest of the positions' smallest.
        constant = self.dtype.type(self.constant)
        return max(constant, self.table.min(axis=1).max()).item(), max(constant, self.table.max()).item()
