"""Timing many things fairly on a machine that does other work too. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from detnas_mm.errors import DetNASError

Key = TypeVar('Key', bound=Hashable)


@dataclass(frozen=True)
class Pace:
    """How thoroughly something is measured.

    Args:
        rounds: How often everything is measured; one more round comes first and warms up.
        min_time: Seconds for which a thing is repeated within a round.
        pause: Seconds of rest after a thing, in which a processor cools down.
        seed: Fixes the order in which things are measured.

    Raises:
        ValueError: If a number does not fit.
    """

    rounds: int = 30
    min_time: float = 0.05
    pause: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 2 or self.min_time < 0 or self.pause < 0:
            raise DetNASError(
                f'rounds must be at least 2, min_time and pause 0 or more; got {self.rounds}, {self.min_time}, '
                f'{self.pause}.'
            )


def interleaved(
    things: Mapping[Key, Callable[[], Sequence[float]]],
    pace: Pace = Pace(),
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[Key, np.ndarray]:
    """Measures things in turn, round after round in ever new order.

    What disturbs a machine for a while (other programs, throttling) then hits all things alike and shows as a spread
    between rounds. Within a round a thing is repeated for ``min_time``, and its quickest run counts, with all its
    parts: on a busy machine that is the one which was disturbed least, and its parts add up to it.

    Args:
        things: What runs one of them once and returns the seconds that its parts took, always as many.
        pace: How thoroughly.
        progress: Wraps what is iterated over, such as a progress bar; has a length.
        clock: Seconds, for ``min_time``.
        sleep: Rests that many seconds.

    Returns:
        For each thing an array of shape (rounds, parts), in seconds.
    """
    rng = np.random.default_rng(pace.seed)
    keys = list(things)
    order = [(number, keys[i]) for number in range(pace.rounds + 1) for i in rng.permutation(len(keys))]
    samples: dict[Key, list[np.ndarray]] = {key: [] for key in keys}
    for number, key in progress(order):
        begin = clock()
        runs = [np.asarray(things[key](), dtype=float)]
        while clock() - begin < pace.min_time:
            runs.append(np.asarray(things[key](), dtype=float))
        if number > 0:  # the first round warms up
            samples[key].append(min(runs, key=np.sum))
        sleep(pace.pause)
    return {key: np.stack(rounds) for key, rounds in samples.items()}


def steadied(samples: Mapping[Key, np.ndarray]) -> dict[Key, np.ndarray]:
    """The same samples with each round divided by how slow it was for all things together.

    All things were measured in every round, so what slowed a whole round says nothing of any one of them.

    Args:
        samples: What :func:`interleaved` returns.
    """
    totals = np.stack([rounds.sum(axis=1) for rounds in samples.values()])  # (things, rounds)
    slowness = np.median(totals / np.median(totals, axis=1, keepdims=True), axis=0)
    return {key: rounds / slowness[:, None] for key, rounds in samples.items()}


def spread(samples: np.ndarray) -> np.ndarray:
    """The interquartile range of the rounds: shape (rounds, …) → (…)."""
    low, high = np.percentile(samples, (25, 75), axis=0)
    return high - low
