"""From a config to measured latencies: builds nets, gathers images, runs the measuring."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import DATASETS, DefaultScope
from torch import Tensor, nn
from tqdm import tqdm

from detnas_mm import __version__
from detnas_mm.checks import checked_input_size
from detnas_mm.compat import load_checkpoint_file
from detnas_mm.config_types import resolve_type
from detnas_mm.engine.provenance import weights_digest
from detnas_mm.errors import DetNASError, expected_errors
from detnas_mm.evaluators.detection.metrics import quiet
from detnas_mm.files import write_json
from detnas_mm.latency import MeasuredLatency
from detnas_mm.latency.device import describe_device, device_text
from detnas_mm.latency.file import PARTS, SCHEMA
from detnas_mm.latency.measure import measure_space
from detnas_mm.latency.stopwatch import Stopwatch, stopwatch
from detnas_mm.latency.timing import Pace
from detnas_mm.models import build_model, checked_weights, find_supernet
from detnas_mm.registry import COSTS
from detnas_mm.search import Objective
from detnas_mm.search.pareto import front_ranks
from detnas_mm.spaces import SearchSpace

#: Images that a detector runs on: what follows the heads takes longer where there is more to see.
NUM_IMAGES = 4
#: A larger spread between rounds, and a larger difference between two measurements, tell of a busy machine.
UNSTEADY = 0.1
BUSY = 'This machine was busy, or changed its pace; ranks hold better than milliseconds. Measure again at rest.'
OFF = 'The machine kept its pace: the tables are off for such nets. A finer --grid, or more --rounds, foretell better.'


class Subject:
    """What is measured, on one device: a backbone alone, or the detector around it.

    Args:
        cfg: A config with ``model``; for images of a detector with ``search.evaluator.dataloader``.
        part: ``'backbone'``, on noise, or ``'detector'``: preprocessing, backbone, neck, head and post-processing.
        input_size: (height, width) in pixels; images are resized to it.
        device: ``'cpu'`` or ``'cuda'``.
        real_images: Whether a detector runs on images of the search's evaluation, or on noise.

    Raises:
        ValueError: If something does not fit.
    """

    def __init__(self, cfg: Any, part: str, input_size: Any, device: str, real_images: bool) -> None:
        if part not in PARTS:
            raise DetNASError(f'part must be one of {PARTS}; got {part!r}.')
        if describe_device(device)['name'] is None:
            raise DetNASError('This machine has no CUDA device that torch can use; measure with --device cpu.')
        self.cfg, self.part, self.device = cfg, part, device
        self.height, self.width = checked_input_size(input_size)
        if part == 'detector' and cfg.get('default_scope') != 'mmdet':
            raise DetNASError('The part detector wants a config of mmdet; measure the part backbone of others.')
        if part == 'detector' and real_images and 'search' not in cfg:
            raise DetNASError(
                'With a checkpoint a detector is measured on images of search-val: give a config with a search section.'
            )
        self.images = 'search-val' if part == 'detector' and real_images else 'noise'
        if part == 'backbone':
            self.inputs: list[Any] = [self._noise(1)]
        elif real_images:
            self.inputs = self._samples(self._search_val())
        else:
            self.inputs = self._samples(list(128 + 50 * self._noise(NUM_IMAGES).cpu()))

    def _noise(self, count: int) -> Tensor:
        shape = (count, 3, self.height, self.width)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(self.device)

    def _search_val(self) -> list[Tensor]:
        """Images as the dataset's pipeline gives them, from all over the set."""
        with DefaultScope.overwrite_default_scope('mmdet'):
            with expected_errors():
                dataset = DATASETS.build(self.cfg.search.evaluator.dataloader.dataset)
            return [dataset[len(dataset) * i // NUM_IMAGES]['inputs'] for i in range(NUM_IMAGES)]

    def _samples(self, images: Sequence[Tensor]) -> list[Any]:
        """Batches of one image, as a detector's ``test_step`` takes them."""
        from mmdet.structures import DetDataSample

        size = (self.height, self.width)
        resized = [nn.functional.interpolate(one[None].float(), size, mode='bilinear')[0] for one in images]
        meta = dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
        return [
            dict(
                inputs=[one.round().clamp(0, 255).to(torch.uint8)],
                data_samples=[DetDataSample(metainfo=meta | dict(img_id=i))],
            )
            for i, one in enumerate(resized)
        ]

    def batch(self, model: nn.Module) -> Tensor:
        """Images as the backbone gets them, several in a batch, shape (n, 3, h, w)."""
        if self.part == 'backbone':
            return self._noise(NUM_IMAGES)
        return torch.cat([model.data_preprocessor(one, False)['inputs'] for one in self.inputs])

    def runner(self, model: nn.Module) -> Callable[[nn.Module, Any], Any]:
        """What runs a backbone on one input, inside the model if that is the part."""

        def inside(backbone: nn.Module, data: Any) -> Any:
            model.backbone = backbone
            return model.test_step(data)

        return inside if self.part == 'detector' else lambda backbone, image: backbone(image)


def load_model(cfg: Any, checkpoint: str | None, device: str, trust: bool = False) -> nn.Module:
    """The model of a config on a device, in evaluation mode, with a checkpoint's weights or its initial ones."""
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model = build_model(cfg)
        if checkpoint:
            model.load_state_dict(checked_weights(model, load_checkpoint_file(checkpoint, trust), checkpoint))
        else:
            model.init_weights()
    return model.to(device).eval()


def progress_bar(what: str) -> Callable[[Iterable[Any]], Iterable[Any]]:
    """Wraps an iteration into a bar with rate and time left."""
    return partial(tqdm, desc=what, unit='run', dynamic_ncols=True, disable=os.environ.get('TQDM_DISABLE') == '1')


def measure_latency(
    cfg: Any,
    checkpoint: str | None,
    file: str | Path,
    part: str,
    input_size: Any,
    device: str,
    pace: Pace | None = None,
    nets: int = 30,
    trust: bool = False,
) -> dict[str, Any]:
    """Measures the latency table of a supernet's space and writes it as JSON.

    Args:
        cfg: The config of a supernet or of a search in it.
        checkpoint: The trained supernet; without one weights are random and a detector is given noise to look at.
        file: Where the table goes.
        part: See :class:`Subject`.
        input_size: (height, width) in pixels.
        device: ``'cpu'`` or ``'cuda'``.
        pace: How thoroughly.
        nets: Random whole nets to check the sums by.
        trust: See :func:`~detnas_mm.compat.load_checkpoint_file`.

    Returns:
        What the file holds.

    Raises:
        ValueError: If something does not fit.
    """
    pace = pace or Pace()
    if nets < 2:
        raise DetNASError(f'The check wants 2 nets or more; got {nets}.')
    subject = Subject(cfg, part, input_size, device, real_images=checkpoint is not None)
    watch = stopwatch(device)
    with quiet():  # every net tells how its weights begin, and how much of them was found
        model = load_model(cfg, checkpoint, device, trust)
        supernet = find_supernet(model)
        digest = weights_digest(model)[:8] if checkpoint else None  # before nets take the supernet's place
        result = measure_space(
            supernet, cfg.model.backbone, subject.runner(model), subject.inputs, subject.batch(model), watch, pace,
            nets, progress_bar('measuring'),
        )  # fmt: skip
    name = type(model if part == 'detector' else supernet).__name__
    size = subject.height, subject.width
    found = file_content(part, name, supernet.space, size, device, watch, pace)
    found |= dict(weights=digest, images=subject.images, **result)
    write_json(file, found, indent=1, allow_nan=False)
    return found


def file_content(
    part: str, model: str, space: SearchSpace, size: tuple[int, int], device: str, watch: Stopwatch, pace: Pace
) -> dict[str, Any]:
    """What all files of measured latencies say of themselves, see :data:`detnas_mm.latency.file.FIELDS`."""
    return dict(
        schema=SCHEMA,
        part=part,
        model=model,
        space=space.spec(),
        input_size=list(size),
        batch_size=1,
        device=describe_device(device),
        clock=watch.name,
        versions=dict(detnas_mm=__version__, torch=torch.__version__, python=platform.python_version()),
        measured=datetime.now(UTC).strftime('%Y-%m-%dT%H:%MZ'),
        pace=vars(pace),
    )


def summary(found: dict[str, Any]) -> str:
    """A measured table in a few lines."""
    parts = found['constant_parts_ms']
    height, width = found['input_size']
    cells, spreads = (np.array(found[key]) for key in ('table_ms', 'iqr_ms'))
    return '\n'.join(
        [
            f'{found["part"]} ({found["model"]}), one image of {height}x{width} ({found["images"]}), '
            f'{device_text(found["device"])}; {found["clock"]}, {found["pace"]["rounds"]} rounds',
            f'  constant {found["constant_ms"]:.3f} ms: before the backbone {parts["before"]:.3f}, stem '
            f'{parts["stem"]:.3f}, after the blocks {parts["after"]:.3f}',
            f'  choices {cells.min():.3f} to {cells.max():.3f} ms; spread between rounds (IQR): median '
            f'{np.median(spreads / cells):.1%}, at most {(spreads / cells).max():.1%}',
            *check_text(found),
        ]
    )


def check_text(found: dict[str, Any]) -> list[str]:
    """How well sums agree with whole nets, in lines."""
    check = found['check']
    low, high = check['measured_range_ms']

    def shown(value: float | None) -> str:
        return 'undefined' if value is None else f'{value:.3f}'

    return [
        f'  sums against {check["nets"]} whole nets of {low:.3f} to {high:.3f} ms (spread between rounds '
        f'{check["iqr_percent"]:.1f} %):',
        f'    mean absolute error {check["mean_absolute_error_percent"]:.2f} %, bias {check["bias_percent"]:+.2f} %, '
        f'now that all cells were multiplied by {found["factor"]:.3f} to agree with them',
        f'    rank correlation: Spearman {shown(check["spearman"])}, Kendall {shown(check["kendall"])}; of two halves '
        f'of the rounds: Kendall {shown(check["kendall_of_two_halves"])}',
    ] + [BUSY] * (check['iqr_percent'] > 100 * UNSTEADY)


def foretold_text(check: dict[str, Any], kept_pace: bool = False) -> list[str]:
    """How well the latencies of nets that were found had been foretold, in lines.

    Args:
        check: See :func:`~detnas_mm.latency.measure.compared`.
        kept_pace: Whether another net took as long as with the tables: then it is not the machine that was off.
    """
    off = OFF if kept_pace else BUSY
    kendall = '' if check['kendall'] is None else f', Kendall {check["kendall"]:.2f}'
    return [
        f'foretold against measured: mean absolute error {check["mean_absolute_error_percent"]:.1f} %, bias '
        f'{check["bias_percent"]:+.1f} %{kendall}; {check["error_after_factor_percent"]:.1f} % once a common factor of '
        f'{check["factor"]:.2f} is taken out'
    ] + [off] * (abs(check['factor'] - 1) > UNSTEADY)


def latency_cost(cfg: Any, kind: type[MeasuredLatency] = MeasuredLatency) -> tuple[str | None, dict[str, Any]]:
    """Name and settings of the first measured latency in a config's search section; (None, {}) if there is none.

    Args:
        cfg: A config.
        kind: Which measured latencies count.
    """
    for name, cost in cfg.get('search', {}).get('costs', {}).items():
        found = resolve_type(cost, COSTS)
        if isinstance(found, type) and issubclass(found, kind):
            return name, cost
    return None, {}


def mark_beaten(nets: Sequence[dict[str, Any]], objectives: Sequence[Objective], latency: str) -> None:
    """Notes which nets others of the front beat once latencies are the measured ones."""

    def gain(net: dict[str, Any], objective: Objective) -> float:
        values = net['fitness'] | net['costs'] | {latency: net['measured_ms']}
        return values[objective.name] if objective.direction == 'maximize' else -values[objective.name]

    ranks = front_ranks(np.array([[gain(net, objective) for objective in objectives] for net in nets]))
    for net, rank in zip(nets, ranks.tolist(), strict=True):
        net['beaten'] = rank > 0
