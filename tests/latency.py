"""Synthetic latency tables, for tests without measuring."""

import json

import numpy as np

from detnas_mm.latency.device import describe_device
from detnas_mm.latency.file import SCHEMA
from detnas_mm.registry import SPACES, build_from
from detnas_mm.systems.mae_det import MAEDetSpace, StructureMacs
from detnas_mm.systems.mae_det.blocks import places
from detnas_mm.systems.mae_det.grid import Grid
from detnas_mm.systems.mae_det.structure import RESNET50


def content(space, part='detector', input_size=(96, 96), **changes):
    """Returns the content of a table file of a space of choices, with random latencies of 0.1 to 0.5 ms per block."""
    rng = np.random.default_rng(0)
    table = [rng.uniform(0.1, 0.5, choices) for choices in space.choices]
    found = dict(
        schema=SCHEMA, part=part, model='RetinaNet', weights=None, images='noise', space=space.spec(),
        input_size=list(input_size), device=describe_device('cpu'), clock='paper', versions={},
        measured='2026-11-26T00:00Z', pace={}, constant_ms=1.25, table_ms=[row.tolist() for row in table],
        iqr_ms=[(row / 20).tolist() for row in table],
    )  # fmt: skip
    return found | changes


def structures(space, input_size=(480, 480), points=4, **changes):
    """Returns the same for structures: 1 ms per 1e8 multiply-adds of the convolutions."""
    space = MAEDetSpace(space)
    grid = Grid.of(space, points)
    standing = places((space.encode([space.smallest()])[0][2], *space.strides), tuple(input_size))
    tables = []
    for number, (place, pieces) in enumerate(zip(standing, grid.places, strict=True)):
        area_in, area = (height * width / 1e8 for height, width in (place.size_in, place.size))
        formulas = dict(
            stem=lambda out, area=area: 27 * area * out,
            reduce_first=lambda cin, btn, area=area_in: area * cin * btn,
            kernel_first=lambda kernel, btn, area=area: area * kernel**2 * btn**2,
            shortcut=lambda cin, out, area=area: area * cin * out,
            reduce=lambda out, btn, area=area: area * out * btn,
            kernel=lambda kernel, btn, area=area: area * kernel**2 * btn**2,
            expand=lambda btn, out, area=area: area * btn * out,
            sum=lambda out: 0.0 * out,
        )
        points_of = {name: [np.array(grid.axis(number, axis)) for axis in axes] for name, axes in pieces.items()}
        tables.append(
            {name: formulas[name](*np.meshgrid(*axes, indexing='ij')).tolist() for name, axes in points_of.items()}
        )
    found = dict(
        schema=SCHEMA, part='backbone', model='MAEDetNet', space=space.spec(), input_size=list(input_size),
        device=describe_device('cpu'), clock='paper', versions={}, measured='2026-11-26T00:00Z', pace={},
        constant_ms=0.0, grid=vars(grid), tables_ms=tables, iqr_ms=tables,
        references_ms=dict(resnet50=StructureMacs(space, input_size).total(RESNET50) / 1e8),
    )  # fmt: skip
    return found | changes


def write(path, space, part='detector', input_size=(96, 96), **changes):
    """Writes a table of choices; returns the path as text."""
    return _written(path, content(space, part, input_size, **changes))


def write_structures(path, space, input_size=(480, 480), **changes):
    """Writes tables of structures; returns the path as text."""
    return _written(path, structures(space, input_size, **changes))


def _written(path, found):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found))
    return str(path)


def provide(cfg, folder):
    """Sets a synthetic table for the costs of a search config that need a measured one."""
    for name, cost in cfg.get('search', {}).get('costs', {}).items():
        file = folder / f'{name}.json'
        if cost.type == 'LatencyTable':
            cost.file = write(file, build_from(SPACES, cfg.search.space), cost.part, tuple(cost.input_size))
        elif cost.type == 'StructureLatency':
            cost.file = write_structures(file, build_from(SPACES, cfg.search.space), tuple(cost.input_size))
    return cfg
