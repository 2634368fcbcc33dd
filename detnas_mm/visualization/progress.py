"""Plots the progress of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from detnas_mm.search import Objective, Record, Snapshot, pareto_front
from detnas_mm.search.text import axis_label

#: Largest number of characters of an architecture in a title.
_TITLE = 60
_COLOURS = {'random': '#8c8c8c', 'mutation': '#1f77b4', 'crossover': '#d95f02'}


def plot_progress(
    records: Sequence[Record], objectives: Sequence[Objective], path: str | Path, units: Mapping[str, str] | None = None
) -> Path:
    """Plots the first objective in the order of evaluation (left), and over the second objective (right).

    With one objective, the right plot uses the first cost instead. With several, a line joins the Pareto front.

    Args:
        records: Rows of a ledger, in order.
        objectives: The objectives of the search.
        path: The PNG to write.
        units: Units of costs by name, for the labels of axes.

    Returns:
        The path.
    """
    ok = [record for record in records if record.ok]
    first = objectives[0]
    second = objectives[1] if len(objectives) > 1 else None
    if second is None and ok and ok[0].costs:
        second = Objective(next(iter(ok[0].costs)), 'minimize')
    figure = Figure(figsize=(12 if second else 7, 4.8), layout='constrained')
    left = figure.add_subplot(1, 2 if second else 1, 1)
    right = figure.add_subplot(1, 2, 2) if second else None
    for origin in sorted({record.origin for record in ok}):
        own = [record for record in ok if record.origin == origin]
        style = dict(s=16, alpha=0.8, linewidths=0, color=_COLOURS.get(origin), label=origin)
        values = [first.value(record) for record in own]
        left.scatter([record.index for record in own], values, **style)
        if right is not None and second is not None:
            right.scatter([second.value(record) for record in own], values, **style)
    if ok:
        gains = np.array([first.gain(record) for record in ok])
        best = [first.value(ok[int(np.argmax(gains[: i + 1]))]) for i in range(len(ok))]
        left.step([record.index for record in ok], best, where='post', color='black', lw=1.2, label='best so far')
        front = pareto_front(ok, objectives)
        arch = front[0].arch if len(front[0].arch) <= _TITLE else f'{front[0].arch[:_TITLE]}…'
        left.set_title(f'best {first.value(front[0]):.4f}: {arch}', fontsize=10, loc='left')
        if right is not None and second is not None:
            marks = dict(marker='*', s=140, label='best') if len(objectives) == 1 else dict(s=30, label='Pareto front')
            x, y = [second.value(record) for record in front], [first.value(record) for record in front]
            right.scatter(x, y, color='black', zorder=3, **marks)
            if len(objectives) == 2:
                right.plot(x, y, color='black', lw=1, zorder=2)
    starts = [r.index for previous, r in zip(records, records[1:]) if r.generation != previous.generation]
    for start in starts:
        left.axvline(start - 0.5, color='#dddddd', lw=0.8, zorder=0)
    left.xaxis.get_major_locator().set_params(integer=True)
    left.set_xlabel('candidate (grey lines: generations)')
    left.set_ylabel(first.name)
    left.legend(fontsize=8, loc='best')
    if right is not None and second is not None:
        right.set_xlabel(axis_label(second.name, (units or {}).get(second.name, '')))
        right.set_ylabel(first.name)
        right.legend(fontsize=8, loc='best')
    for axes in figure.axes:
        axes.spines[['top', 'right']].set_visible(False)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


def plot_population(
    snapshots: Sequence[Snapshot], objective: Objective, path: str | Path, bound: float | None = None
) -> Path:
    """Plots the best, median and worst of the population over the number of drawn candidates, from snapshots.

    Args:
        snapshots: Snapshots of a ledger, in order.
        objective: The objective of the search.
        path: The PNG to write.
        bound: Proven upper bound, drawn as a line; None for none.

    Returns:
        The path.
    """
    figure = Figure(figsize=(7, 4.8), layout='constrained')
    axes = figure.add_subplot()
    drawn = [snapshot.drawn for snapshot in snapshots]
    values = [[objective.value(record) for record in snapshot.population] for snapshot in snapshots]
    best = [own[0] for own in values]
    axes.fill_between(drawn, [own[-1] for own in values], best, alpha=0.2, linewidth=0, label='population')
    axes.plot(drawn, [float(np.median(own)) for own in values], lw=1, label='median')
    axes.plot(drawn, best, color='black', lw=1.2, marker='o', ms=3, label='best')
    if bound is not None:
        axes.axhline(bound, color='#d95f02', lw=1, ls='--', label=f'proven bound {bound:.2f}')
    axes.set_title(f'best {best[-1]:.4f}: {snapshots[-1].population[0].arch}', fontsize=8)
    axes.set_xlabel('candidates drawn')
    axes.set_ylabel(objective.name)
    axes.legend(fontsize=8, loc='lower right')
    axes.spines[['top', 'right']].set_visible(False)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
