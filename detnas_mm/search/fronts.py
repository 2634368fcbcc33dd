"""Pareto fronts of several searches side by side, and the joint one of nets that were trained alike. No torch."""

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

#: Details of a row that say for how long its net was trained.
BUDGET = ('epochs', 'iterations')


def training_budget(record: Record) -> dict[str, Any]:
    """For how long the net of a row was trained, as its evaluator says in ``details``; empty if it does not."""
    return {name: record.details[name] for name in BUDGET if name in record.details}


@dataclass(frozen=True)
class Stage:
    """A search among others.

    Attributes:
        name: What it is called in tables and pictures.
        header: Of its ledger.
        records: Its rows.
    """

    name: str
    header: Mapping[str, Any]
    records: Sequence[Record]

    @classmethod
    def read(cls, path: str | Path, name: str | None = None) -> Stage:
        """Reads the ledger of a search.

        Args:
            path: Its folder, or the ledger.
            name: Defaults to that of the folder.

        Raises:
            DetNASError: If there is no ledger, or it is damaged.
        """
        file = Path(path, LEDGER) if Path(path).is_dir() else Path(path)
        if not file.is_file():
            raise MissingFileError(f'There is no ledger {file}: name the folder of a search, or its {LEDGER}.')
        return cls(name or file.resolve().parent.name, *read_ledger(file))

    @property
    def objectives(self) -> list[Objective]:
        """What it searched for."""
        return [Objective(**one) for one in self.header.get('objectives', ())]

    def measured(self, objective: Objective) -> dict[str, Any]:
        """What an objective that is a cost is counted or measured by: of a latency the device, threads and versions.

        Tables of costs are of a space each, and are left out.
        """
        costs = (self.header.get('budget') or {}).get('costs') or {}
        return {key: value for key, value in (costs.get(objective.name) or {}).items() if key != 'table'}

    def training(self, record: Record) -> str:
        """All that must be equal for two rows to be compared: evaluator, recipe of the space, and budget of the row."""
        recipe = (self.header.get('space') or {}).get('recipe')
        known = dict(evaluator=self.header.get('evaluator'), recipe=recipe, budget=training_budget(record))
        return json.dumps(known, sort_keys=True)


@dataclass(frozen=True)
class Joint:
    """Rows of several searches that were trained alike.

    Attributes:
        rows: (name of the search, row) of each.
        front: Those of them that no other one beats.
        left_out: Successful rows that were trained otherwise, by the name of their search.
    """

    rows: list[tuple[str, Record]]
    front: list[tuple[str, Record]]
    left_out: dict[str, int]


def common_objectives(stages: Sequence[Stage]) -> list[Objective]:
    """The objectives of searches that have the same ones.

    Raises:
        DetNASError: If they have not, these are not two, or costs were measured on other devices or by other versions.
    """
    first = stages[0].objectives
    for stage in stages[1:]:
        if stage.objectives != first:
            raise DetNASError(
                f'{stage.name} searches for {_names(stage.objectives)}, {stages[0].name} for {_names(first)}: fronts '
                f'of different objectives cannot be compared.'
            )
        for objective in first:
            unlike = differences(stages[0].measured(objective), stage.measured(objective))
            if unlike:
                raise DetNASError(
                    f'{objective.name} of {stage.name} is not that of {stages[0].name}, so their fronts cannot be '
                    f'compared ({unlike}). Search both with one device and one environment.'
                )
    if len(first) != 2:
        raise DetNASError(f'{stages[0].name} searches for {_names(first)}; fronts here are of two objectives.')
    return first


def _names(objectives: Iterable[Objective]) -> str:
    return ' and '.join(f'{one.name} ({one.direction})' for one in objectives) or 'nothing'


def joint_front(stages: Sequence[Stage], objectives: Sequence[Objective]) -> Joint:
    """The front of all rows that were trained as those of the last search: by one evaluator, recipe and budget.

    Args:
        stages: The searches; what the last one trains is final.
        objectives: See :func:`common_objectives`.
    """
    wanted = next((stages[-1].training(record) for record in reversed(stages[-1].records) if record.ok), None)
    rows: list[tuple[str, Record]] = []
    left_out: dict[str, int] = {}
    for stage in stages:
        for record in stage.records:
            if record.ok and stage.training(record) != wanted:
                left_out[stage.name] = left_out.get(stage.name, 0) + 1
            elif record.ok:
                rows.append((stage.name, record))
    best = {id(record) for record in pareto_front([record for _, record in rows], objectives)}
    front = [row for row in rows if id(row[1]) in best]
    front.sort(key=lambda row: -objectives[0].gain(row[1]))
    return Joint(rows, front, left_out)


def reference_point(rows: Iterable[Record], objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Where hypervolumes begin if nobody says otherwise: 0, or the worst of all rows if that is worse or a cost."""
    ok = [record for record in rows if record.ok]
    worst = []
    for objective in objectives:
        values = [objective.value(record) for record in ok] or [0.0]
        worst.append(min(0.0, *values) if objective.direction == 'maximize' else max(values))
    return tuple(worst)


def volume(rows: Iterable[Record], objectives: Sequence[Objective], reference: Sequence[float]) -> float:
    """Hypervolume of rows above a reference point, in the objectives' units; failed rows have none.

    Args:
        rows: Rows of a search.
        objectives: Two.
        reference: A value of each objective; what is worse in one of them adds nothing.
    """
    ok = [record for record in rows if record.ok]
    gains = np.array([[objective.gain(record) for objective in objectives] for record in ok]).reshape(len(ok), 2)
    signs = [1 if objective.direction == 'maximize' else -1 for objective in objectives]
    return hypervolume(gains, np.array(signs) * np.array(reference, dtype=float))
