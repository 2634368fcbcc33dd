"""Fixed batches of a dataset, loaded once and shared between ranks."""

from __future__ import annotations

import copy
import hashlib
import os
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.registry import DATASETS, FUNCTIONS, DefaultScope
from mmengine.structures import BaseDataElement

from detnas_mm.checks import whole
from detnas_mm.config_types import comparable
from detnas_mm.datasets.described import described
from detnas_mm.datasets.reading import check_images, looked_at
from detnas_mm.errors import DetNASError, library_errors
from detnas_mm.evaluators.detection.truth import check_categories
from detnas_mm.evaluators.detection.worker_loading import load_ahead
from detnas_mm.evaluators.loaders import fitted_loader
from detnas_mm.evaluators.ranks import Unit, share_out
from detnas_mm.evaluators.seeding import kept_random_states, seeded
from detnas_mm.registry import building
from detnas_mm.terminal import doing


def _num_bytes(data: Any) -> int:
    if isinstance(data, (torch.Tensor, np.ndarray)):
        return data.nbytes
    if isinstance(data, BaseDataElement):
        return _num_bytes(data.to_dict())
    if isinstance(data, Mapping):
        return sum(map(_num_bytes, data.values()))
    if isinstance(data, Sequence) and not isinstance(data, str):
        return sum(map(_num_bytes, data))
    return _num_bytes(getattr(data, 'masks', ()))  # masks of mmdet, which may need more memory than the image


def _steps(cfg: Any) -> list[dict[str, Any]]:
    """Returns all steps in the pipelines of a dataset and of those that it wraps."""
    if isinstance(cfg, Mapping):
        inner = [step for key, part in sorted(cfg.items()) if key != 'pipeline' for step in _steps(part)]
        return [dict(step) for step in cfg.get('pipeline', ())] + inner
    return [step for part in cfg for step in _steps(part)] if isinstance(cfg, (list, tuple)) else []


def checked_loader(name: str, cfg: Any) -> Mapping[str, Any]:
    """Checks that a dataloader's config has a dataset and a batch size; see :func:`fitted_loader`.

    Raises:
        ValueError: If one is missing, or there are unknown settings.
    """
    parts = cfg if isinstance(cfg, Mapping) else {}
    if not isinstance(parts.get('dataset'), Mapping) or 'batch_size' not in parts:
        raise DetNASError(
            f"{name} must have batch_size and dataset, as in dict(batch_size=8, dataset=dict(type='CocoDataset', …)); "
            f'got {cfg!r}.'
        )
    return fitted_loader(name, parts)


class _Repeatable:
    """A dataset that is seeded for each item: mmdet replaces an image that its pipeline drops by a random one."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        with seeded(index, cpu_alone=True):  # a loader's worker must not use a GPU
            return self.dataset[index]


class FixedBatches:
    """The same images in the same batches in every pass.

    The batches do not depend on the number of ranks, which :func:`share_out` distributes them to. Loaded data are
    cached while there is room; other batches are loaded again in each pass.

    Args:
        dataloader: mmengine's dataloader config: ``dataset``, ``batch_size``, and optionally ``num_workers`` and
            ``collate_fn``. Samplers are ignored: order and batches are fixed.
        num_images: Number of images to use; None for all.
        seed: Selects ``num_images`` images: the first of a random order drawn from this seed. None: the first ones.
        whole_batches: Whether the batch size must divide the number of images.
        cache_mb: Megabytes of loaded images to cache on each rank.
        key: Key of the dataloader, for messages.

    Raises:
        ValueError: If the dataset is too small, the batch size does not fit, images are missing or changed at random,
            annotations cannot be read, or labels do not match the classes of ``metainfo``; later, if an image cannot be
            read.
    """

    def __init__(
        self,
        dataloader: Mapping[str, Any],
        num_images: int | None = None,
        seed: int | None = None,
        whole_batches: bool = False,
        cache_mb: float = 2048,
        key: str = 'dataloader',
    ) -> None:
        cfg = copy.deepcopy(dict(dataloader))
        self._key = key
        self._pipeline = _steps(cfg['dataset'])
        scope = DefaultScope.get_current_instance()
        with building(key), looked_at(described(key, cfg, scope and scope.scope_name)):
            self.dataset = DATASETS.build(cfg['dataset'])
            if hasattr(self.dataset, 'full_init'):
                self.dataset.full_init()
        check_categories(self.dataset)
        self.batch_size = whole('batch_size', cfg['batch_size'], 1)
        self.num_workers = whole('num_workers', cfg.get('num_workers', 0))
        collate = dict(cfg.get('collate_fn', dict(type='pseudo_collate')))
        kind = collate.pop('type')
        function = FUNCTIONS.get(kind) if isinstance(kind, str) else kind
        self._collate = lambda items: function(items, **collate)
        name = type(self.dataset).__name__
        available = len(self.dataset)
        if num_images is None:
            num_images = available
        if not 0 < whole('num_images', num_images) <= available:
            raise DetNASError(
                f'num_images must lie between 1 and {available}, the number of images of {name}; got {num_images!r}.'
            )
        if whole_batches and num_images % self.batch_size:
            raise DetNASError(
                f'batch_size {self.batch_size} does not divide the {num_images} images, so the last batch would '
                f'have too much weight. Choose a divisor, such as '
                f'{max(d for d in range(1, self.batch_size + 1) if num_images % d == 0)}.'
            )
        order = list(range(available))
        if seed is not None:
            generator = torch.Generator().manual_seed(seed)
            order = torch.randperm(available, generator=generator).tolist()
        self.indices = order[:num_images]
        check_images(self.dataset, self.indices)
        self._batches = [self.indices[i : i + self.batch_size] for i in range(0, len(self.indices), self.batch_size)]
        self._refuse_random(name)
        self._room = cache_mb * 2**20
        self._cache: dict[int, Any] = {}

    @property
    def metainfo(self) -> Any:
        """The dataset's."""
        return self.dataset.metainfo

    def __len__(self) -> int:
        return len(self._batches)

    def fingerprint(self) -> str:
        """Returns a digest of the images, their labels, order and transforms, but not of the folder they are in."""
        digest = hashlib.sha256(repr(comparable(self._pipeline)).encode())
        for index in self.indices:
            info = self.dataset.get_data_info(index)
            path = str(info.get('img_path', index))
            labels = [
                (one.get('bbox'), one.get('bbox_label'), *(['ignored'] if one.get('ignore_flag') else []))
                for one in info.get('instances', ())
            ]
            digest.update(f'{os.path.basename(path)}|{info.get("gt_label")}|{labels}\n'.encode())
        return digest.hexdigest()[:16]

    def _refuse_random(self, name: str) -> None:
        """Raises if images differ each time they are read, since candidates are compared on them."""
        with kept_random_states() as unchanged:
            first = self.dataset[self.indices[0]]['inputs']
            if unchanged():
                return
            for _ in range(64):  # a change of one image in ten is missed once in a thousand times
                again = self.dataset[self.indices[0]]['inputs']
                if again.shape != first.shape or not torch.equal(again, first):
                    raise DetNASError(
                        f'The pipeline of {name} changes images at random, so candidates would be evaluated on '
                        f'different ones. Remove the random steps from {[step.get("type") for step in self._pipeline]}.'
                    )

    def walk(self, numbers: Iterable[int], parts: int = 1) -> Iterator[tuple[Unit, Any]]:
        """Yields this rank's share of some batches, as (unit, collated data); the data may be changed.

        Args:
            numbers: Numbers of the batches.
            parts: Number of parts of the candidates that a batch may be split into.
        """
        wanted, done = sorted(set(numbers)), 0
        with doing(lambda: f'{self._key}: {done:,} of {len(wanted):,} batches done'):
            for unit, data in self._walk(wanted, parts):
                yield unit, data
                done = bisect(wanted, unit.batch)

    def _walk(self, wanted: list[int], parts: int) -> Iterator[tuple[Unit, Any]]:
        missing = [n for n in wanted if n % get_world_size() == get_rank() and n not in self._cache]
        ahead = missing if self.num_workers else []
        indices = [self._batches[number] for number in ahead]
        loading = zip(ahead, load_ahead(_Repeatable(self.dataset), indices, self.num_workers), strict=True)
        number, data = -1, None
        for unit in share_out(wanted, parts):
            while number != unit.batch and unit.batch in ahead:
                with library_errors(self._key):
                    number, items = next(loading)
                data = self._collated(number, items)
            if number != unit.batch:
                with library_errors(self._key):
                    number, data = unit.batch, self._load(unit.batch)
            yield unit, self._copy(data)

    def _load(self, number: int) -> Any:
        if number not in self._cache:
            return self._collated(number, [_Repeatable(self.dataset)[index] for index in self._batches[number]])
        return self._cache[number]

    def _collated(self, number: int, items: list[Any]) -> Any:
        """Collates loaded items to a batch, and caches it if there is room."""
        data = self._collate(items)
        size = _num_bytes(data)
        if size <= self._room:
            self._room -= size
            self._cache[number] = data
        return data

    @staticmethod
    def _copy(data: Any) -> Any:
        """Copies a batch: images are shared, annotations copied, since models change these in place."""
        if isinstance(data, Mapping) and 'data_samples' in data:
            return {**data, 'data_samples': copy.deepcopy(data['data_samples'])}
        return copy.deepcopy(data)
