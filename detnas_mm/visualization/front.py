"""Plots the nets of a Pareto front over their measured latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from detnas_mm.latency.device import device_text
from detnas_mm.latency.text import size_text
from detnas_mm.search import Objective, Record, counted

_GREY, _BLUE, _ORANGE, _PALE = '#b8b8b8', '#1f77b4', '#d95f02', '#f3c09b'


def plot_front(found: Mapping[str, Any], records: Sequence[Record], path: str | Path) -> Path:
    """Plots the first objective over latency: all candidates and the front as predicted, and the nets as measured.

    If the search predicted no latency, only the measured nets are drawn.

    Args:
        found: Content of ``measured.json``.
        records: Rows of the ledger.
        path: The PNG to write.

    Returns:
        The path.
    """
    objective, latency = Objective(**found['objectives'][0]), found['latency']
    nets = sorted(found['nets'], key=lambda net: net['measured_ms'] if latency is None else net['costs'][latency])
    fitness = [(net['fitness'] | net['costs'])[objective.name] for net in nets]
    measured = [net['measured_ms'] for net in nets]
    spread = [net['iqr_ms'] / 2 for net in nets]
    ok = [record for record in records if record.ok]
    untrained = bool(found.get('untrained'))
    how = 'measured before training' if untrained else 'predicted'

    figure = Figure(figsize=(9, 6), layout='constrained')
    axes = figure.add_subplot()
    if latency is not None:
        axes.scatter(
            [record.costs[latency] for record in ok], [objective.value(record) for record in ok], s=14, color=_GREY,
            lw=0, label=f'{counted(len(ok), "candidate")} ({how})', zorder=1,
        )  # fmt: skip
        line = '-o' if len(found['objectives']) == 2 else 'o'  # three objectives: no line
        predicted = [net['costs'][latency] for net in nets]
        axes.plot(predicted, fitness, line, color=_BLUE, ms=4, lw=1.2, label=f'front ({how})', zorder=2)
    axes.errorbar(
        measured, fitness, xerr=spread, fmt='D', color=_ORANGE, ecolor=_PALE, ms=6, lw=1.2, capsize=2.5, mec='white',
        mew=0.6,
        label=f'{counted(len(nets), "exported net")}, measured (bars: interquartile range)', zorder=3,
    )  # fmt: skip
    what = 'whole detector, image to boxes' if found['part'] == 'detector' else 'backbone only'
    axes.set_xlabel(f'latency, ms ({what}; one image {size_text(found)}; {device_text(found["device"])})')
    axes.set_ylabel(objective.name)
    check, title = found['predictions'], f'{counted(len(nets), "net")} of one search'
    if check is not None:
        title += (
            f'. {"Measured before training" if untrained else "Predicted"} vs measured: mean absolute error '
            f'{check["mean_absolute_error_percent"]:.1f} %, bias {check["bias_percent"]:+.1f} %'
        )
    axes.set_title(title, fontsize=10.5)
    axes.grid(color='#eeeeee', lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    figure.legend(loc='outside lower center', ncols=2, fontsize=9, frameon=False)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    return path
