"""Plots of the share of each genotype: per convolution of the last net, and per stage over epochs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from detnas_mm.files import replacing
from detnas_mm.spaces import Architecture
from detnas_mm.systems.nats.convs import genotype_text
from detnas_mm.systems.nats.space import DilationSpace

#: Largest number of epochs that is drawn as bars; more are drawn as areas.
_BARS = 40


def draw_genotypes(space: DilationSpace, archs: Sequence[Architecture], path: str | Path) -> Path:
    """Draws the share of every genotype among the channels.

    The upper plot has a stacked bar per convolution of the last architecture, as in the paper. With more than one
    architecture, the lower plots show the shares per epoch, one panel per stage.

    Args:
        space: The space.
        archs: The decoded architectures in order of epochs, one or more; the found one for a search without epochs.
        path: The PNG file to write.

    Returns:
        The path.
    """
    path = Path(path)
    with replacing(path) as draft:
        genotypes_figure(space, archs).savefig(draft, dpi=110, format='png')
    return path


def genotypes_figure(space: DilationSpace, archs: Sequence[Architecture]) -> Figure:
    """Returns the figure of :func:`draw_genotypes`."""
    names = list(dict.fromkeys(genotype_text(one) for found in space.genotypes.values() for one in found))
    colours = _colours(names)
    count = len(space.stages)
    columns = min(count, 4)
    rows = -(-count // columns) if len(archs) > 1 else 0
    figure = Figure(figsize=(12, 4.2 + 2.6 * rows), layout='constrained')
    FigureCanvasAgg(figure)
    if not rows:
        _draw_convs(figure.subplots(), space, archs[-1], colours)
        return figure
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.3, rows))
    _draw_convs(upper.subplots(), space, archs[-1], colours)
    axes = lower.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    over_time = [space.shares(arch) for arch in archs]
    for axis, stage in zip(axes, space.stages, strict=False):
        own = {name: [shares[stage][name] for shares in over_time] for name in over_time[0][stage]}
        _draw_epochs(axis, own, colours)
        axis.set_title(stage, fontsize=10, loc='left')
    for axis in axes[count:]:
        axis.set_visible(False)
    axes[0].set_ylabel('share of channels')
    return figure


def _draw_convs(axis: Axes, space: DilationSpace, arch: Architecture, colours: dict[str, tuple[float, ...]]) -> None:
    """Draws a stacked bar for every convolution, and a line before every stage."""
    dilations = [list(map(genotype_text, found)) for found in space.dilations(arch)]
    places = range(len(dilations))
    bottom = [0.0] * len(dilations)
    for name, colour in colours.items():
        heights = [found.count(name) / len(found) for found in dilations]
        axis.bar(places, heights, 0.8, bottom=bottom, color=colour, label=name)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    for place, conv in enumerate(space.convs):
        if place and conv.stage != space.convs[place - 1].stage:
            axis.axvline(place - 0.5, color='black', lw=0.8)
    axis.set_xticks(places, [conv.name for conv in space.convs], rotation=90, fontsize=8 if len(dilations) < 60 else 5)
    axis.set(xlim=(-0.6, len(dilations) - 0.4), ylim=(0, 1), ylabel='share of channels')
    axis.legend(
        title='dilation\n(height x width)', title_fontsize=8, fontsize=8, loc='upper left', bbox_to_anchor=(1, 1.03),
        ncols=-(-len(colours) // 12),
    )  # fmt: skip


def _draw_epochs(axis: Axes, shares: dict[str, list[float]], colours: dict[str, tuple[float, ...]]) -> None:
    """Draws the shares over epochs, stacked."""
    epochs = range(1, len(next(iter(shares.values()))) + 1)
    palette = [colours[name] for name in shares]
    if len(epochs) > _BARS:
        axis.stackplot(epochs, *shares.values(), colors=palette, linewidth=0)
    else:
        bottom = [0.0] * len(epochs)
        for colour, heights in zip(palette, shares.values(), strict=True):
            axis.bar(epochs, heights, 0.9, bottom=bottom, color=colour)
            bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axis.set(xlim=(0.5, len(epochs) + 0.5), ylim=(0, 1), xlabel='epoch')
    axis.xaxis.get_major_locator().set_params(integer=True)


def _colours(names: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Returns a distinct colour for every genotype; 1x1 is grey."""
    several = matplotlib.colormaps['tab20' if len(names) > 10 else 'tab10']
    others = [name for name in names if name != '1x1']
    found = {'1x1': (0.85, 0.85, 0.85, 1.0)} if '1x1' in names else {}
    tints = [several(number) for number in range(several.N) if number not in ((7,) if several.N == 10 else (14, 15))]
    if len(others) > len(tints):  # such as with dilations up to 6
        tints = [matplotlib.colormaps['turbo'](number / (len(others) - 1)) for number in range(len(others))]
    return found | dict(zip(others, tints, strict=False))
