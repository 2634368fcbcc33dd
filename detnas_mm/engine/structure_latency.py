"""From a search's config to measured latencies of structures: nets that stand alone, without a supernet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from detnas_mm.checks import checked_input_size
from detnas_mm.engine.latency import check_text, file_content, progress_bar, write_json
from detnas_mm.errors import DetNASError
from detnas_mm.latency.device import describe_device, device_text
from detnas_mm.latency.stopwatch import stopwatch
from detnas_mm.latency.timing import Pace
from detnas_mm.registry import SPACES, build_from
from detnas_mm.search import UnmeetableConstraint
from detnas_mm.spaces import Architecture, SearchSpace
from detnas_mm.systems.mae_det.counts import StructureMacs
from detnas_mm.systems.mae_det.grid import Grid
from detnas_mm.systems.mae_det.measure_structures import measure_structures
from detnas_mm.systems.mae_det.space import MAEDetSpace
from detnas_mm.systems.mae_det.structure import RESNET50, read_structure

#: Nets that are measured with the tables, for limits on latency.
REFERENCES = {'resnet50': RESNET50}
#: Random members drawn before giving up.
MAX_ATTEMPTS = 1_000_000


def standalone_space(cfg: Any) -> SearchSpace | None:
    """The space of a config's search section, if its nets stand alone; None if they are cut out of a supernet."""
    space = build_from(SPACES, cfg.get('search', {}).get('space'))
    return space if isinstance(space, MAEDetSpace) else None


def nets_to_check(space: MAEDetSpace, input_size: tuple[int, int], count: int, seed: int) -> list[Architecture]:
    """Random members with at most the multiply-adds of ResNet-50, which are those that searches end at.

    Raises:
        UnmeetableConstraint: If there are hardly any.
    """
    macs = StructureMacs(space, input_size)
    limit = macs.total(RESNET50)
    rng = np.random.default_rng(seed)
    found: dict[Architecture, None] = {}
    drawn = 0
    while len(found) < min(count, space.size) and drawn < MAX_ATTEMPTS:
        codes = space.sample_codes(rng, 10_000)
        drawn += len(codes)
        found |= dict.fromkeys(space.decode(codes[macs.totals(codes) <= limit]))
    if len(found) < 2:
        raise UnmeetableConstraint(
            f'Of {drawn:,} random members of {space!r} {len(found)} have at most the {limit:,} multiply-adds of '
            f'ResNet-50; the check wants nets of about that size.'
        )
    return list(found)[:count]


def measure_structure_latency(
    space: SearchSpace,
    file: str | Path,
    input_size: Any,
    device: str,
    pace: Pace | None = None,
    nets: int = 30,
    points: int = 5,
) -> dict[str, Any]:
    """Measures the latency tables of a space of structures and writes them as JSON.

    Args:
        space: A :class:`MAEDetSpace`.
        file: Where the tables go.
        input_size: (height, width) in pixels.
        device: ``'cpu'`` or ``'cuda'``.
        pace: How thoroughly.
        nets: Random whole nets to check the sums by.
        points: Widths of a place that are measured.

    Returns:
        What the file holds.

    Raises:
        ValueError: If something does not fit.
    """
    pace = pace or Pace()
    if nets < 2:
        raise DetNASError(f'The check wants 2 nets or more; got {nets}.')
    if not isinstance(space, MAEDetSpace):
        raise DetNASError(f'Latencies of structures are of a MAEDetSpace; this search has {space!r}.')
    if describe_device(device)['name'] is None:
        raise DetNASError('This machine has no CUDA device that torch can use; measure with --device cpu.')
    size = checked_input_size(input_size)
    grid = Grid.of(space, points)
    drawn = nets_to_check(space, size, nets, pace.seed)
    torch.manual_seed(pace.seed)
    watch = stopwatch(device)
    references = {name: read_structure(text) for name, text in REFERENCES.items()}
    image = torch.randn(1, 3, *size).to(device)
    result = measure_structures(space, grid, drawn, references, image, watch, pace, progress_bar('measuring'))
    found = file_content('backbone', 'MAEDetNet', space, size, device, watch, pace) | result
    write_json(file, found, indent=1, allow_nan=False)
    return found


def structures_summary(found: dict[str, Any]) -> str:
    """Measured tables in a few lines."""
    height, width = found['input_size']
    cells, spreads = (
        np.concatenate([np.ravel(table) for place in found[key] for table in place.values()])
        for key in ('tables_ms', 'iqr_ms')
    )
    lines = [
        f'{found["part"]} ({found["model"]}), one image of {height}x{width} (noise), {device_text(found["device"])}; '
        f'{found["clock"]}, {found["pace"]["rounds"]} rounds',
        f'  {len(cells)} cells of {cells.min():.3f} to {cells.max():.3f} ms; spread between rounds (IQR): median '
        f'{np.median(spreads[cells > 0] / cells[cells > 0]):.1%} of a cell, at most {spreads.max():.3f} ms',
        *check_text(found),
    ]
    for name, ms in found['references_ms'].items():
        lines += [
            f'  {name}: {ms:.3f} ms. To search at its latency: constraints=[dict(cost=…, high={ms:.6g})], or '
            f'relative_to={name!r} in the cost and high=1.0'
        ]
    return '\n'.join(lines)
