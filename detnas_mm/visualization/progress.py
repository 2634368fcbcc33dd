"""The progress of a search as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from detnas_mm.search import Objective, Record

_COLOURS = {'random': '#8c8c8c', 'mutation': '#1f77b4', 'crossover': '#d95f02'}


def plot_progress(records: Sequence[Record], objective: Objective, path: str | Path) -> Path:
    """Draws every candidate's fitness in the order of evaluation, the best so far, and fitness against the first cost.

    Args:
        records: Rows of a ledger, in order.
        objective: What was optimised.
        path: The PNG to write.

    Returns:
        The path.
    """
    ok = [record for record in records if record.ok]
    values = np.array([record.metrics[objective.name] for record in ok])
    gains = np.array([objective.gain(record.metrics) for record in ok])
    cost = next(iter(ok[0].costs), None) if ok else None
    figure = Figure(figsize=(12 if cost else 7, 4.8), layout='constrained')
    FigureCanvasAgg(figure)
    left = figure.add_subplot(1, 2 if cost else 1, 1)
    right = figure.add_subplot(1, 2, 2) if cost else None
    for origin in sorted({record.origin for record in ok}):
        own = np.array([i for i, record in enumerate(ok) if record.origin == origin])
        style = dict(s=16, alpha=0.8, linewidths=0, color=_COLOURS.get(origin), label=origin)
        left.scatter([ok[i].index for i in own], values[own], **style)
        if right is not None:
            right.scatter([ok[i].costs[cost] for i in own], values[own], **style)
    if ok:
        best = values[[int(np.argmax(gains[: i + 1])) for i in range(len(ok))]]
        left.step([record.index for record in ok], best, where='post', color='black', lw=1.2, label='best so far')
        winner = objective.best_first(ok)[0]
        left.set_title(f'best {winner.metrics[objective.name]:.4f}: {winner.arch}', fontsize=10)
        if right is not None and cost is not None:
            right.scatter(
                [winner.costs[cost]], [winner.metrics[objective.name]], marker='*', s=140, color='black', label='best'
            )
    starts = [r.index for previous, r in zip(records, records[1:]) if r.generation != previous.generation]
    for start in starts:
        left.axvline(start - 0.5, color='#dddddd', lw=0.8, zorder=0)
    left.set_xlabel('candidate (grey lines: generations)')
    left.set_ylabel(objective.name)
    left.legend(fontsize=8, loc='best')
    if right is not None:
        right.set_xlabel(cost)
        right.set_ylabel(objective.name)
        right.legend(fontsize=8, loc='best')
    for axes in figure.axes:
        axes.spines[['top', 'right']].set_visible(False)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
