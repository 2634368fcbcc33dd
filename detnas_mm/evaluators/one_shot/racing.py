"""Candidates without prospects are not evaluated to the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from detnas_mm.checks import listed, real, whole
from detnas_mm.errors import DetNASError
from detnas_mm.search import Evaluation, Objective, Record


class Stage(NamedTuple):
    """A part of an evaluation.

    Attributes:
        calibration: Numbers of the calibration batches that are added.
        evaluation: Numbers of the batches to be judged on; what was predicted on them before is replaced.
    """

    calibration: list[int]
    evaluation: list[int]


class Racing:
    """Judges candidates on a share of the images first, and drops those that the full set would hardly save.

    Every candidate that got the full set has two values of the objective: on the share and on all images. A straight
    line through these pairs, of all finished generations, predicts the full value of a candidate from its value on
    the share, and how far off that may be (the prediction interval of linear regression, with Student's t; survivors
    of the first share were chosen by it alone, which leaves its line unbiased; that of a later share is learnt from
    those that an earlier one let through, and is so nearly). A candidate is dropped if, at the confidence asked for,
    its full value stays below that of the best ``keep`` so far. So a decision depends on finished generations and on
    the candidate, never on its companions. Until there are ``at_least`` pairs none is dropped.

    Args:
        shares: Which shares of the images to stop at, ascending, each in (0, 1).
        confidence: Probability with which a candidate that is dropped is out of the best ``keep``, in [0.5, 1).
        keep: How many of the best of all generations must not be missed; the number of parents of the evolution.
        at_least: Pairs to learn from before any candidate is dropped; 5 or more.
        calibration: Share of the calibration images that BN statistics are taken on until the last stage, in (0, 1].
            Below 1 survivors are recalibrated in full then, and judged anew on all images: it pays where
            recalibration is a large part of an evaluation, and most candidates are dropped.

    Raises:
        ValueError: If a number does not fit.
    """

    def __init__(
        self,
        shares: Sequence[float] = (0.25, 0.5),
        confidence: float = 0.99,
        keep: int = 10,
        at_least: int = 20,
        calibration: float = 1.0,
    ) -> None:
        self.shares = [float(real('racing.shares', share)) for share in listed('racing.shares', shares, '[0.25, 0.5]')]
        if not self.shares or self.shares != sorted(set(self.shares)) or not 0 < self.shares[0] <= self.shares[-1] < 1:
            raise DetNASError(f'racing.shares must ascend and lie between 0 and 1, such as [0.25, 0.5]; got {shares}.')
        if not 0.5 <= real('racing.confidence', confidence) < 1:
            raise DetNASError(f'racing.confidence must lie in [0.5, 1); got {confidence}.')
        if not 0 < real('racing.calibration', calibration) <= 1:
            raise DetNASError(f'racing.calibration must lie in (0, 1]; got {calibration}.')
        self.confidence = confidence
        self.keep = whole('racing.keep', keep, 1)
        self.at_least = whole('racing.at_least', at_least, 5)
        self.calibration = calibration
        self._objective: Objective | None = None
        self._ok: list[Record] = []
        self._threshold = -math.inf

    def spec(self) -> dict[str, Any]:
        """The settings, JSON-ready."""
        names = ('shares', 'confidence', 'keep', 'at_least', 'calibration')
        return {name: getattr(self, name) for name in names}

    def stages(self, batches: int, calibration_batches: int = 0) -> list[Stage]:
        """What is added at each stage: evaluation's batches in a fixed random order, cut at the shares.

        Args:
            batches: How many batches there are to judge on.
            calibration_batches: How many there are to recalibrate on.
        """
        order = np.random.default_rng(0).permutation(batches).tolist()
        cuts = sorted({math.ceil(share * batches) for share in self.shares} - {batches})
        parts = [sorted(order[a:b]) for a, b in zip([0, *cuts], [*cuts, batches])]
        first = math.ceil(self.calibration * calibration_batches) if cuts else calibration_batches
        stages = [Stage([], part) for part in parts]
        stages[0] = Stage(list(range(first)), parts[0])
        if first < calibration_batches:
            stages[-1] = Stage(list(range(first, calibration_batches)), list(range(batches)))
        return stages

    def setup(self, objectives: Sequence[Objective]) -> None:
        """Called once before the first evaluation.

        Raises:
            ValueError: If there are several objectives: a candidate that is last in one may be first in another.
        """
        if len(objectives) != 1:
            raise DetNASError(
                f'Racing drops who has no prospect in one objective; got {[o.name for o in objectives]}. Take '
                f'evaluator.racing out of the config, or all objectives but one.'
            )
        self._objective = objectives[0]
        self.observe([])

    def observe(self, records: Sequence[Record]) -> None:
        """Learns from all rows of finished generations."""
        assert self._objective is not None  # setup comes first
        self._ok = self._objective.best_first(records)
        enough = len(self._ok) >= self.keep
        self._threshold = self._objective.gain(self._ok[self.keep - 1]) if enough else -math.inf

    def prospect(self, images: int, metrics: dict[str, float]) -> float:
        """The highest full value to be expected of a candidate, in the objective's direction turned to "larger".

        Args:
            images: How many images it was judged on.
            metrics: Its metrics there.

        Returns:
            The upper end of the prediction interval; infinity where nothing can be said yet.
        """
        name = self._objective.name if self._objective else ''
        sign = 1 if self._objective is None or self._objective.direction == 'maximize' else -1
        pairs = [
            (sign * partial(record)[str(images)][name], sign * record.metrics[name])
            for record in self._ok
            if name in partial(record).get(str(images), {}) and name in record.metrics
        ]
        if len(pairs) < self.at_least or name not in metrics:
            return math.inf
        return upper_bound(np.array(pairs), sign * metrics[name], self.confidence)

    def verdict(self, images: int, metrics: dict[str, float]) -> str | None:
        """Why a candidate is dropped after so many images; None if it is not."""
        highest = self.prospect(images, metrics)
        if highest >= self._threshold:
            return None
        name = self._objective.name if self._objective else ''
        return (
            f'{name} is {metrics[name]:.4f} on {images} images: at {100 * self.confidence:g}% confidence out of the '
            f'best {self.keep} so far'
        )


def partial(row: Record | Evaluation) -> dict[str, dict[str, float]]:
    """Metrics on the first so many images, by that number: never to be compared with those on all images."""
    return row.details.get('partial', {})


def judged_on(row: Record | Evaluation) -> int | None:
    """How many images a candidate was judged on; None for one that failed before."""
    return row.details.get('images')


def spared(records: Sequence[Record]) -> str:
    """Which share of the images the rows of the last generation were not judged on; empty if none was dropped."""
    last = [record for record in records if record.generation == records[-1].generation]
    full = max(judged_on(record) or 0 for record in records)
    if not full or not any(record.status == 'dropped' for record in last):
        return ''
    seen = sum(full if (own := judged_on(record)) is None else own for record in last)
    return f'saved {1 - seen / (full * len(last)):.0%} of the images'


def upper_bound(pairs: np.ndarray, x: float, confidence: float) -> float:
    """The upper end of the one-sided prediction interval of simple linear regression.

    Args:
        pairs: Array of shape (n, 2) of known (x, y), n > 2.
        x: Where to predict y.
        confidence: Probability that the y to be observed lies below the result.

    Returns:
        ``a + b x + t s sqrt(1 + 1/n + (x - mean)² / Sxx)``; infinity if all x are equal.
    """
    from scipy.stats import t

    known, values = pairs.T
    count, centre = len(pairs), known.mean()
    spread = ((known - centre) ** 2).sum()
    if np.ptp(known) == 0:
        return math.inf
    slope = ((known - centre) * (values - values.mean())).sum() / spread
    residuals = values - values.mean() - slope * (known - centre)
    deviation = math.sqrt((residuals**2).sum() / (count - 2))
    margin = math.sqrt(1 + 1 / count + (x - centre) ** 2 / spread)
    predicted = values.mean() + slope * (x - centre)
    return float(predicted + t.ppf(confidence, count - 2) * deviation * margin)
