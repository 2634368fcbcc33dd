"""A latency table on paper, for tests that measure nothing."""

import json

import numpy as np

from detnas_mm.cost.device import describe_device
from detnas_mm.cost.latency import SCHEMA
from detnas_mm.spaces import DetNASSpace


def content(space, part='detector', input_size=(96, 96), **changes):
    """What such a file holds; latencies are random, between 0.1 and 0.5 ms a block."""
    space = DetNASSpace(space)
    table = np.random.default_rng(0).uniform(0.1, 0.5, (space.num_blocks, space.num_choices))
    found = dict(
        schema=SCHEMA, part=part, model='RetinaNet', weights=None, images='noise', space=space.spec(),
        input_size=list(input_size), device=describe_device('cpu'), clock='paper', versions={},
        measured='2026-11-26T00:00Z', pace={}, constant_ms=1.25, table_ms=table.tolist(), iqr_ms=(table / 20).tolist(),
    )  # fmt: skip
    return found | changes


def write(path, space, part='detector', input_size=(96, 96), **changes):
    """Writes it; returns the path as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content(space, part, input_size, **changes)))
    return str(path)


def provide(cfg, folder):
    """Gives the costs of a search config that want a measured table one on paper."""
    for name, cost in cfg.get('search', {}).get('costs', {}).items():
        if cost.type == 'LatencyTable':
            file = folder / f'{name}.json'
            cost.file = write(file, cfg.search.space.space, cost.part, tuple(cost.input_size))
    return cfg
