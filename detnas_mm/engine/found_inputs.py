"""Inputs on which the nets found by a search are measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from detnas_mm.engine.export import without_search
from detnas_mm.engine.latency import latency_of, measured_costs
from detnas_mm.errors import DetNASError
from detnas_mm.latency import NetLatency
from detnas_mm.latency.inputs import Inputs, search_val_images
from detnas_mm.latency.whole import test_scale
from detnas_mm.search import SearchJob
from detnas_mm.spaces.images import RGB

Size = tuple[int, int]


class FoundInputs:
    """Inputs of exported nets: the same for all, or one for each input size if their test pipelines differ.

    With a latency table, nets are measured like the table. Without one, whole detectors of mmdet run on images of
    search-val, or on noise if there are none; of other nets the backbone runs on noise. The input size of a detector is
    that of its first image; if its latency was searched (:class:`~detnas_mm.latency.NetLatency`), the size of that
    measurement; on noise the ``scale`` of its test pipeline.

    Args:
        job: The search, finished or not.
        device: ``'cpu'`` or ``'cuda'``.
        input_size: (height, width) in pixels for all nets, if there is no measured latency.

    Attributes:
        part: ``'backbone'`` or ``'detector'``.
        first: Inputs of a random net, and of all nets with the same test set.

    Raises:
        ValueError: If nets cannot be measured, or the input size is not known.
    """

    def __init__(self, job: SearchJob, device: str, input_size: Any = None) -> None:
        net = job.space.configure(without_search(job.cfg), job.space.sample(np.random.default_rng(0)))
        kind = type(job.space).__name__
        if net is None:
            raise DetNASError(
                f'Exported nets are measured by their configs, but {kind} cannot configure its nets (its '
                f'configure() returns None).'
            )
        self.device = device
        self.channels = job.space.in_channels or RGB
        self._size: Size | None = input_size  # for all nets
        self._searched: NetLatency | None = None
        table = next(iter(measured_costs(job.budget).values()), None)
        _, cost = latency_of(job.budget) or (None, None)
        if table is not None:
            measured = table.measurement
            self.part, self._size = measured['part'], measured['input_size']
            self._real = measured.get('images', 'noise') != 'noise'
        else:
            model = net.get('model', {})
            self.part = 'detector' if net.get('default_scope') == 'mmdet' and 'type' in model else 'backbone'
            self._real = self.part == 'detector'
            self._searched = cost if isinstance(cost, NetLatency) else None
            if 'backbone' not in model:
                raise DetNASError(f'Nets of {kind} have no backbone, so their latency cannot be measured.')
        self._made: dict[str, Inputs] = {}
        source = job.evaluator.rescoring(net) if self._real and job.evaluator is not None else None
        self.first = self.of(net if source is None else source, source is not None)

    def of(self, cfg: Mapping[str, Any], search_val: bool) -> Inputs:
        """Returns the inputs of one net, cached for nets with the same test set.

        Args:
            cfg: Its exported config.
            search_val: Whether its test set is search-val; otherwise it runs on noise.

        Raises:
            ValueError: If its input size is not known.
        """
        real = self._real and search_val
        key = json.dumps([real, cfg.get('test_dataloader') if self.part == 'detector' else None], default=repr)
        if key not in self._made:
            images = search_val_images(cfg) if real else None
            size = self._size or self._searched_at(cfg) or (images[0].shape[-2:] if images else test_scale(cfg))
            if size is None:
                raise DetNASError(
                    'The input size is not known: this search has no measured latency, no images of search-val and no '
                    'test pipeline with a scale. Give --input-size H W.'
                )
            self._made[key] = Inputs(self.part, size, self.device, images, self.channels)
        return self._made[key]

    def _searched_at(self, cfg: Mapping[str, Any]) -> Size | None:
        return None if self._searched is None else test_scale(cfg) or self._searched.input_size
