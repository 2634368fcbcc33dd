"""Pareto fronts of several searches, and the joint front of nets that were trained alike. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detnas_mm.errors import DetNASError, MissingFileError
from detnas_mm.search.job import LEDGER
from detnas_mm.search.ledger_file import differences, read_ledger
from detnas_mm.search.objective import Objective, pareto_front
from detnas_mm.search.pareto import hypervolume
from detnas_mm.search.record import Record

#: Details of a row with the duration of its training.
BUDGET = ('epochs', 'iterations')

#: Detail of a row whose config trains in another way than the search, such as with other augmentation: a digest of it.
OWN_TRAINING = 'own_training'


def training_budget(record: Record) -> dict[str, Any]:
    """Returns the training budget in the ``details`` of a row (epochs, iterations); empty if there is none."""
    return {name: record.details[name] for name in BUDGET if name in record.details}


@dataclass(frozen=True)
class Stage:
    """A search that is compared with others.

    Attributes:
        name: Its name in tables and pictures.
        header: Header of its ledger.
        records: Rows of its ledger.
    """

    name: str
    header: Mapping[str, Any]
    records: Sequence[Record]

    @classmethod
    def read(cls, path: str | Path, name: str | None = None) -> Stage:
        """Reads the ledger of a search.

        Args:
            path: Folder of the search, or the ledger.
            name: Name of the search. Defaults to that of the folder.

        Raises:
            DetNASError: If there is no ledger, or it is damaged.
        """
        file = Path(path, LEDGER) if Path(path).is_dir() else Path(path)
        if not file.is_file():
            raise MissingFileError(f'There is no ledger {file}. Give the folder of a search, or its {LEDGER}.')
        return cls(name or file.resolve().parent.name, *read_ledger(file))

    @property
    def objectives(self) -> list[Objective]:
        """Objectives of the search."""
        return [Objective(**one) for one in self.header.get('objectives', ())]

    def measured(self, objective: Objective) -> dict[str, Any]:
        """Returns how a cost was measured: for a latency, the device, threads and versions; empty for a metric.

        The table of a cost belongs to one space and is left out.
        """
        costs = (self.header.get('budget') or {}).get('costs') or {}
        return {key: value for key, value in (costs.get(objective.name) or {}).items() if key != 'table'}

    def training(self, record: Record) -> str:
        """Returns what must be equal for two rows to be compared, as text.

        It is the evaluator, the recipe, the training budget, and how the net was trained if not as the search says.
        """
        recipe = (self.header.get('space') or {}).get('recipe')
        known = dict(
            evaluator=self.header.get('evaluator'), recipe=recipe, budget=training_budget(record),
            own_training=record.details.get(OWN_TRAINING),
        )  # fmt: skip
        return json.dumps(known, sort_keys=True)


@dataclass(frozen=True)
class Joint:
    """Rows of several searches that were trained alike.

    Attributes:
        rows: Pairs of (name of the search, row).
        front: The pairs on the joint Pareto front, best in the first objective first.
        left_out: Number of successful rows that were trained differently, by name of the search.
    """

    rows: list[tuple[str, Record]]
    front: list[tuple[str, Record]]
    left_out: dict[str, int]


def common_objectives(stages: Sequence[Stage]) -> list[Objective]:
    """Returns the objectives of searches that share them.

    Raises:
        DetNASError: If objectives differ or are not two, or costs were measured on different devices or versions.
    """
    first = stages[0].objectives
    for stage in stages[1:]:
        if stage.objectives != first:
            raise DetNASError(
                f'{stage.name} has the objectives {_names(stage.objectives)}, and {stages[0].name} {_names(first)}: '
                f'fronts of different objectives cannot be compared.'
            )
        for objective in first:
            unlike = differences(stages[0].measured(objective), stage.measured(objective))
            if unlike:
                raise DetNASError(
                    f'{objective.name} of {stage.name} and of {stages[0].name} were measured differently, so their '
                    f'fronts cannot be compared ({unlike}). Search both on one device and in one environment.'
                )
    if len(first) != 2:
        raise DetNASError(f'{stages[0].name} has the objectives {_names(first)}; fronts are compared for two.')
    return first


def _names(objectives: Iterable[Objective]) -> str:
    return ' and '.join(f'{one.name} ({one.direction})' for one in objectives) or 'none'


def joint_front(stages: Sequence[Stage], objectives: Sequence[Objective]) -> Joint:
    """Returns the joint front of all rows that were trained like the last successful row, see :meth:`Stage.training`.

    Args:
        stages: The searches; the last one defines how rows must have been trained.
        objectives: See :func:`common_objectives`.
    """
    target = next((stages[-1].training(record) for record in reversed(stages[-1].records) if record.ok), None)
    rows: list[tuple[str, Record]] = []
    left_out: dict[str, int] = {}
    for stage in stages:
        for record in stage.records:
            if record.ok and stage.training(record) != target:
                left_out[stage.name] = left_out.get(stage.name, 0) + 1
            elif record.ok:
                rows.append((stage.name, record))
    best = {id(record) for record in pareto_front([record for _, record in rows], objectives)}
    front = [row for row in rows if id(row[1]) in best]
    front.sort(key=lambda row: -objectives[0].gain(row[1]))
    return Joint(rows, front, left_out)


def reference_point(rows: Iterable[Record], objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Returns the default reference point of hypervolumes.

    For an objective to maximise it is the worst value or 0, if 0 is worse; for one to minimise, the worst value.
    """
    ok = [record for record in rows if record.ok]
    worst = []
    for objective in objectives:
        values = [objective.value(record) for record in ok] or [0.0]
        worst.append(min(0.0, *values) if objective.direction == 'maximize' else max(values))
    return tuple(worst)


def volume(rows: Iterable[Record], objectives: Sequence[Objective], reference: Sequence[float]) -> float:
    """Returns the hypervolume of rows with respect to a reference point, in units of the objectives.

    Args:
        rows: Rows of a search; failed ones are ignored.
        objectives: Two objectives.
        reference: A value of each objective; rows that are worse in one of them add nothing.
    """
    ok = [record for record in rows if record.ok]
    gains = np.array([[objective.gain(record) for objective in objectives] for record in ok]).reshape(len(ok), 2)
    signs = [1 if objective.direction == 'maximize' else -1 for objective in objectives]
    return hypervolume(gains, np.array(signs) * np.array(reference, dtype=float))
