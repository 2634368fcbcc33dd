"""Times several functions under equal conditions on a machine with other load. Imports no torch."""

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
    """Number and length of measurements.

    Args:
        rounds: Number of rounds; one more round comes first as a warm-up.
        min_time: Seconds for which each function is repeated within a round.
        pause: Seconds of rest after each function, in which the processor cools down.
        seed: Seed of the order of measurements.

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
    """Measures functions in rounds, in another random order in each round.

    So temporary disturbances (other programs, throttling) affect all of them alike, and show as a spread between
    rounds. Within a round a function is repeated for ``min_time``, and its fastest run counts with all its parts: it
    was disturbed least, and its parts add up to its time.

    Args:
        things: Functions that run once and return the seconds of their parts, always the same number.
        pace: Number of rounds and their length.
        progress: Wraps a list, such as a progress bar does.
        clock: Returns seconds, for ``min_time``.
        sleep: Sleeps for seconds.

    Returns:
        For each function an array of shape (rounds, parts), in seconds.
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
    """Returns samples corrected for slow rounds: each round is divided by its median slowdown over all functions.

    Args:
        samples: Result of :func:`interleaved`.
    """
    totals = np.stack([rounds.sum(axis=1) for rounds in samples.values()])  # (things, rounds)
    slowness = np.median(totals / np.median(totals, axis=1, keepdims=True), axis=0)
    return {key: rounds / slowness[:, None] for key, rounds in samples.items()}


def spread(samples: np.ndarray) -> np.ndarray:
    """Returns the interquartile range over the rounds: shape (rounds, …) → (…)."""
    low, high = np.percentile(samples, (25, 75), axis=0)
    return high - low
