"""Plots the fronts of several searches in one figure, with hand-designed detectors as marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from detnas_mm.search import Objective, Record, counted, number_text, pareto_front
from detnas_mm.search.fronts import Joint, Stage
from detnas_mm.search.text import axis_label

_COLOURS = ('#1f77b4', '#d95f02', '#2ca02c', '#9467bd', '#8c564b', '#e377c2')
#: Largest number of names in the figure, and of characters per name.
_NAMES, _LONGEST = 40, 76
_ROW = 0.19  # height of a line of names, in inches


@dataclass(frozen=True)
class Mark:
    """A hand-designed detector, for comparison.

    Attributes:
        name: Label of its mark.
        values: Values of the objectives, in their order.
    """

    name: str
    values: tuple[float, float]


def plot_fronts(
    stages: Sequence[Stage],
    objectives: Sequence[Objective],
    path: str | Path,
    joint: Joint | None = None,
    marks: Sequence[Mark] = (),
    units: Sequence[str] = ('', ''),
) -> Path:
    """Plots the first objective over the second one: a colour for every search, dominated nets faint.

    A line joins the front of each search, a broad grey line the joint front. Nets on fronts are numbered; a table below
    the axes lists them by the first objective, best first.

    Args:
        stages: The searches.
        objectives: The two objectives.
        path: The PNG to write.
        joint: The joint front; None for none.
        marks: Hand-designed detectors.
        units: Units of the objectives in axis labels, such as ``('', 'ms')``.

    Returns:
        The path.
    """
    first, second = objectives
    fronts = [pareto_front(stage.records, objectives) if any(r.ok for r in stage.records) else [] for stage in stages]
    named = _named(stages, fronts, joint, first)
    lines = min(len(named), _NAMES) + (len(named) > _NAMES)
    figure = Figure(figsize=(10, 6.2 + _ROW * (lines + 1)), layout='constrained')
    axes, below = figure.subplots(2, 1, height_ratios=(6.2, _ROW * (lines + 1)))
    for stage, front, colour in zip(stages, fronts, _cycle(len(stages)), strict=True):
        best = {record.id for record in front}
        ok = [record for record in stage.records if record.ok]
        others = [record for record in ok if record.id not in best]
        axes.scatter(*_places(others, second, first), s=20, color=colour, alpha=0.28, lw=0, zorder=1)
        axes.plot(
            *_places(front, second, first), '-o', color=colour, ms=6, mec='white', mew=0.7, lw=1.2, zorder=3,
            label=f'{stage.name}: front of {counted(len(ok), "net")}',
        )  # fmt: skip
    if joint is not None and joint.front:
        axes.plot(
            *_places([record for _, record in joint.front], second, first), color='black', alpha=0.16, lw=7, zorder=2,
            solid_capstyle='round',
            label=f'joint front of {counted(len(joint.rows), "net")} with equal training',
        )  # fmt: skip
    for numbers, (x, y) in _numbers([(second.value(row), first.value(row)) for _, _, row in named[:_NAMES]]):
        # Nothing is drawn above and left of a front whose second objective is minimised.
        axes.annotate(
            numbers, (x, y), (-4, 4), textcoords='offset points', ha='right', va='bottom', fontsize=8, zorder=5
        )
    if marks:
        places = [mark.values[1] for mark in marks], [mark.values[0] for mark in marks]
        axes.scatter(*places, marker='D', s=34, color='#333333', zorder=4, label='hand-designed')
        for mark in marks:
            axes.annotate(
                mark.name, mark.values[::-1], (6, -4), textcoords='offset points', va='top', fontsize=8,
                color='#333333', zorder=5,
            )  # fmt: skip
    axes.set_xlabel(axis_label(second.name, units[1]))
    axes.set_ylabel(axis_label(first.name, units[0]))
    axes.margins(x=0.08, y=0.08)
    axes.grid(color='#eeeeee', lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(fontsize=9, frameon=False, loc='lower right')
    _write_names(below, named, objectives, units, lines)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


def _cycle(count: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]


def _places(records: Sequence[Record], second: Objective, first: Objective) -> tuple[list[float], list[float]]:
    return [second.value(record) for record in records], [first.value(record) for record in records]


def _numbers(places: Sequence[tuple[float, float]]) -> list[tuple[str, tuple[float, float]]]:
    """Returns the labels of points, numbered from 1; numbers of points that are close together share one label."""
    spans = [max(values) - min(values) or 1.0 for values in zip(*places, strict=True)]
    found: list[tuple[str, tuple[float, float]]] = []
    for number, place in enumerate(places, 1):
        for i, (text, other) in enumerate(found):
            if abs(place[0] - other[0]) < 0.018 * spans[0] and abs(place[1] - other[1]) < 0.02 * spans[1]:
                found[i] = f'{text}, {number}', other
                break
        else:
            found.append((str(number), place))
    return found


def _short(value: float) -> str:
    return f'{value:#.4g}' if 0.001 <= abs(value) < 1000 else number_text(float(f'{value:.4g}'))


def _named(
    stages: Sequence[Stage], fronts: Sequence[Sequence[Record]], joint: Joint | None, first: Objective
) -> list[tuple[str, str, Record]]:
    """Returns colour, search and row of all nets on fronts, best first; those of the joint front are black."""
    on_joint = {id(record) for _, record in joint.front} if joint is not None else set()
    found = [
        ('black' if id(record) in on_joint else colour, stage.name, record)
        for stage, front, colour in zip(stages, fronts, _cycle(len(stages)), strict=True)
        for record in front
    ]
    return sorted(found, key=lambda one: -first.gain(one[2]))


def _write_names(
    axes: Any,
    named: Sequence[tuple[str, str, Record]],
    objectives: Sequence[Objective],
    units: Sequence[str],
    lines: int,
) -> None:
    """Writes the table of the numbered nets, one line each."""
    axes.set(xlim=(0, 1), ylim=(lines + 0.5, -0.5))
    axes.axis('off')
    heads = [axis_label(objective.name, unit) for objective, unit in zip(objectives, units, strict=True)]
    columns = (0.02, 0.13, 0.25, 0.28, 0.42)
    for x, text in zip((*columns[1:3], *columns[3:]), (*heads, 'search', 'net'), strict=True):
        axes.text(x, 0, text, fontsize=8, color='#666666', ha='right' if x in columns[1:3] else 'left', va='center')
    for number, (colour, stage, record) in enumerate(named[:_NAMES], 1):
        arch = record.arch if len(record.arch) <= _LONGEST else f'{record.arch[:_LONGEST]}…'
        values = [_short(objective.value(record)) for objective in objectives]
        for x, text in zip(columns, (str(number), *values, stage, arch), strict=True):
            axes.text(
                x, number, text, fontsize=8, color=colour, va='center', ha='right' if x in columns[:3] else 'left'
            )
    if len(named) > _NAMES:
        axes.text(columns[3], lines, f'… and {len(named) - _NAMES} more', fontsize=8, color='#666666', va='center')
