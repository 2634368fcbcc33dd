"""Saves, restores and seeds the global random generators."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch


@contextlib.contextmanager
def kept_random_states(cpu_alone: bool = False) -> Iterator[Callable[[], bool]]:
    """Restores all global random generators after the block; yields a function that checks if they are unchanged.

    Args:
        cpu_alone: If True, generators of GPUs are not saved.
    """
    states = random.getstate(), np.random.get_state(), torch.random.get_rng_state()

    def unchanged() -> bool:
        now = np.random.get_state()
        same_numpy = all(np.array_equal(a, b) for a, b in zip(now, states[1], strict=True))
        return same_numpy and random.getstate() == states[0] and torch.equal(torch.random.get_rng_state(), states[2])

    with torch.random.fork_rng([] if cpu_alone else None):
        try:
            yield unchanged
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


@contextlib.contextmanager
def seeded(seed: int, cpu_alone: bool = False) -> Iterator[None]:
    """Seeds all global random generators, or those of the CPU only, and restores their states after."""
    with kept_random_states(cpu_alone):
        random.seed(seed)
        np.random.seed(seed)
        (torch.default_generator if cpu_alone else torch).manual_seed(seed)
        yield


def stable_seed(values: Sequence[Any]) -> int:
    """Returns a seed that depends on these values only, not on the process as Python's hash does."""
    return int.from_bytes(hashlib.sha256(repr(values).encode()).digest()[:4], 'big')
