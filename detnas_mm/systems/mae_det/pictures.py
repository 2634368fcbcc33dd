"""Figure of structures one below the other: width, depth and kernel of every stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from detnas_mm.errors import expected_errors
from detnas_mm.spaces import Architecture
from detnas_mm.systems.mae_det.structure import unpack

_COLOURS = {1: '#c6dbef', 3: '#6baed6', 5: '#2171b5', 7: '#08306b'}


def draw_structures(archs: Mapping[str, Architecture], path: str | Path) -> Path:
    """Draws each structure as a row of boxes from input to output.

    A box is a bottleneck: its height shows the output channels, the dark part the inner channels, the colour the
    kernel. The label below a super-block gives width, kernel, inner channels (b) and depth (×). A vertical line marks
    the beginning of each stage, C1 (the stem) to C5.

    Args:
        archs: Structures by name.
        path: The PNG to write.

    Returns:
        The path.
    """
    figure = Figure(figsize=(12, 1 + 2.2 * len(archs)), layout='constrained')
    kernels: set[int] = set()
    widest, longest = 0, 0
    axes = figure.subplots(len(archs), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axis, (name, arch) in zip(axes, archs.items(), strict=True):
        stem, blocks = unpack(arch)
        boxes = [(stem.out, 0, stem.kernel, stem.stride)]
        labels = [(0, 1, f'{stem.out}\n{stem.kernel}x{stem.kernel}')]
        for block in blocks:
            texts = (f'{block.out}', f'{block.kernel}x{block.kernel}', f'b{block.bottleneck}', f'×{block.depth}')
            labels.append((len(boxes), block.depth, '\n'.join(texts)))
            boxes += [(block.out, block.bottleneck, block.kernel, 1 if j else block.stride) for j in range(block.depth)]
        widest, longest = max(widest, *(box[0] for box in boxes)), max(longest, len(boxes))
        stages = 0
        for x, (width, inner, kernel, stride) in enumerate(boxes):
            kernels.add(kernel)
            colour = _COLOURS.get(kernel, '#969696')
            axis.add_patch(Rectangle((x + 0.05, 0), 0.9, width, facecolor=colour, linewidth=0))
            if inner:
                axis.add_patch(Rectangle((x + 0.3, 0), 0.4, inner, facecolor='#333333', linewidth=0))
            if stride == 2:
                axis.axvline(x, color='#bbbbbb', lw=0.8, zorder=0)
                stages += 1
                axis.annotate(
                    f'C{stages}', (x, 1), (3, -2), xycoords=('data', 'axes fraction'), textcoords='offset points',
                    va='top', fontsize=8, color='#666666',
                )  # fmt: skip
        for x, depth, label in labels:
            axis.annotate(
                label, (x + depth / 2, 0), (0, -2), xycoords=('data', 'axes fraction'), textcoords='offset points',
                va='top', ha='center', fontsize=7,
            )  # fmt: skip
        axis.set_title(f'{name}: {len(boxes) - 1} bottlenecks', fontsize=9, loc='left')
        axis.set_ylabel('channels', fontsize=8)
        axis.spines[['top', 'right']].set_visible(False)
        axis.tick_params(bottom=False, labelbottom=False, labelsize=8)
    axes[0].set(xlim=(-0.3, longest + 0.3), ylim=(0, 1.15 * widest))  # shared; room above for stage names
    handles = [Rectangle((0, 0), 1, 1, facecolor=_COLOURS.get(k, '#969696'), label=f'{k}x{k}') for k in sorted(kernels)]
    handles.append(Rectangle((0, 0), 1, 1, facecolor='#333333', label='bottleneck'))
    axes[0].legend(handles=handles, fontsize=8, loc='upper left', bbox_to_anchor=(1, 1))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with expected_errors():  # matplotlib's error lists the file formats it supports
        figure.savefig(path, dpi=120)
    return path
