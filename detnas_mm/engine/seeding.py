"""Random numbers of a training as a function of (seed, epoch, rank), so that a resumed training draws the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.seeding import seeded, stable_seed


def seed_process(seed: int, epoch: int) -> None:
    """Seeds Python's, numpy's and torch's generators of this process, on all devices.

    Args:
        seed: Seed of the training.
        epoch: The epoch that starts; each rank gets different numbers.
    """
    value = stable_seed(('process', seed, epoch, get_rank()))
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)


def seed_loader(loader: DataLoader, seed: int, epoch: int) -> None:
    """Seeds one pass through a data loader: the order, and the random numbers for loading each item.

    Call it before ``iter(loader)``. The random numbers of the n-th item of a pass depend on (seed, epoch, rank, n), but
    neither on the number of workers nor on earlier items, so persistent workers give the same items as new ones. The
    order is that of the sampler for this seed and epoch.

    Args:
        loader: Loader of a map-style dataset, with batches. Its batch sampler is wrapped.
        seed: Seed of this loader; two loaders of one training need different seeds.
        epoch: Number of the pass; must be different for each pass of an epoch.

    Raises:
        DetNASError: If the loader has no batches of indices, or no fixed order.
    """
    batches = loader.batch_sampler
    if batches is None or isinstance(loader.dataset, IterableDataset):
        what = 'an IterableDataset' if batches is not None else 'batch_size=None'
        raise DetNASError(
            f'A data loader with {what} cannot be seeded, since it has no batches of indices: use a '
            f'dataset with __getitem__ and __len__, and a batch_size.'
        )
    if not getattr(loader, 'in_order', True):
        raise DetNASError('A data loader with in_order=False has no fixed order of batches; leave that setting out.')
    if not isinstance(batches, SeededBatches):
        batches = SeededBatches(batches)
        object.__setattr__(loader, 'batch_sampler', batches)  # DataLoader does not allow it after construction
        loader._iterator = None  # persistent workers would get their batches from the old one
    batches.seed, batches.epoch, batches.skipped = seed, epoch, 0
    for sampler in (loader.sampler, batches.batches, getattr(batches, 'sampler', None)):
        _seed_sampler(sampler, seed, epoch)
    # DataLoader draws a number for new workers but not for persistent ones: keep it off torch's own generator
    loader.generator = torch.Generator().manual_seed(stable_seed(('loader', seed, epoch, get_rank())))


def _seed_sampler(sampler: Any, seed: int, epoch: int) -> None:
    """Seeds the order of a sampler, equally on all ranks, which take items in turn."""
    of_pass = stable_seed(('sampler', seed, epoch))
    if getattr(sampler, 'generator', False) is None or isinstance(getattr(sampler, 'generator', None), torch.Generator):
        sampler.generator = torch.Generator().manual_seed(of_pass)  # torch's own samplers
    if isinstance(sampler, InfiniteSampler):  # it ignores the epoch, and continues after prefetched items
        sampler.seed = of_pass
        sampler.indices = sampler._indices_of_rank()
    elif hasattr(sampler, 'set_epoch'):
        if hasattr(sampler, 'seed'):  # mmengine draws one for each process if the config has none
            sampler.seed = stable_seed(('sampler', seed))
        sampler.set_epoch(epoch)


#: Lists in mmdet's batch samplers by aspect ratio: items that wait until there is a batch of their shape. After a pass
#: that was not taken to its end they would hold its items, and one that is full would never be emptied again.
_WAITING = ('_aspect_ratio_buckets', '_buckets')


class SeededBatches:
    """A batch sampler whose batches seed the loading of their items; wraps another one and has its attributes.

    Attributes:
        batches: The batch sampler.
        seed: See :func:`seed_loader`.
        epoch: See :func:`seed_loader`.
        skipped: Number of batches skipped at the start of a pass, without loading.
    """

    seed = 0
    epoch = 0
    skipped = 0

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[SeededBatch]:
        # loaders with workers call it twice for each pass
        return self._pass((self.seed, self.epoch, get_rank()), self.skipped)

    def _pass(self, key: tuple[int, ...], skipped: int) -> Iterator[SeededBatch]:
        for name in _WAITING:
            if isinstance(lists := getattr(self.batches, name, None), list):
                setattr(self.batches, name, [[] for _ in lists])
        drawn = 0
        for number, indices in enumerate(self.batches):
            if number >= skipped:
                yield SeededBatch(indices, key, drawn)
            drawn += len(indices)

    def __getattr__(self, name: str) -> Any:
        if name == 'batches':  # while it is copied it has no attributes yet
            raise AttributeError(name)
        return getattr(self.batches, name)


class SeededPasses:
    """Endless batches of a loader, each pass seeded by :func:`seed_loader`, for iteration-based training loops.

    Replaces the iterator of mmengine's ``IterBasedTrainLoop``, and skips without loading.

    Args:
        loader: See :func:`seed_loader`.
        seed: See :func:`seed_loader`; the number of the pass is its epoch.
    """

    def __init__(self, loader: DataLoader, seed: int) -> None:
        self.loader, self.seed = loader, seed
        self._number = 0
        self._batches: Iterator[Any] | None = None
        seed_loader(loader, seed, 0)

    def __iter__(self) -> SeededPasses:
        return self

    def __next__(self) -> Any:
        if self._batches is None:
            self._batches = iter(self.loader)
        try:
            return next(self._batches)
        except StopIteration:
            self._begin(self._number + 1)
            self._batches = iter(self.loader)
            return next(self._batches)

    def skip_iter(self, count: int) -> None:
        """Skips the first batches, which a resumed training has used already.

        Args:
            count: Number of batches, over all passes; must be called before the first batch is taken.
        """
        indices, skipped = iter(self._indices()), 0
        for _ in range(count):
            if next(indices, None) is None:
                self._begin(self._number + 1)
                indices, skipped = iter(self._indices()), 0
                next(indices)
            skipped += 1
        self._begin(self._number)
        self._indices().skipped = skipped

    def _indices(self) -> SeededBatches:
        batches: Any = self.loader.batch_sampler
        return batches

    def _begin(self, number: int) -> None:
        self._number = number
        seed_loader(self.loader, self.seed, number)
        self._batches = None


@dataclass(frozen=True)
class SeededBatch:
    """The indices of a batch; iterating over them seeds the CPU's generators for each item.

    It carries the seed to the worker that loads it, whatever that worker has loaded before. In a process that also
    trains, its own random states are restored after.

    Attributes:
        indices: Indices into the dataset.
        key: Key from which the random numbers of the pass derive.
        first: Number of earlier items of the pass.
    """

    indices: list[int]
    key: tuple[int, ...]
    first: int

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        for number, index in enumerate(self.indices, self.first):
            value = stable_seed((*self.key, number))
            if get_worker_info() is None:
                with seeded(value, cpu_alone=True):
                    yield index
            else:  # kept for collate_fn
                random.seed(value)
                np.random.seed(value)
                torch.default_generator.manual_seed(value)
                yield index
