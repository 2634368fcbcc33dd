"""Racing: stops the evaluation of candidates that are unlikely to be among the best."""

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
        evaluation: Numbers of the evaluation batches; earlier predictions on them are replaced.
    """

    calibration: list[int]
    evaluation: list[int]


class Racing:
    """Evaluates candidates on a share of the images first, and drops those that are unlikely to be among the best.

    Every candidate that got the full set has two values of the objective: on the share and on all images. A linear
    regression on these pairs, of all finished generations, predicts the full value of a candidate from its value on the
    share, with a prediction interval (Student's t). Survivors of the first share were selected by it alone, so its line
    is unbiased; that of a later share is learnt from survivors of an earlier one, and nearly unbiased. A candidate is
    dropped if, at the given confidence, its full value is below that of the best ``keep`` so far. So a decision depends
    on finished generations and on the candidate, never on other candidates. Until there are ``at_least`` pairs none is
    dropped.

    Args:
        shares: Shares of the images after which candidates may be dropped, ascending, each in (0, 1).
        confidence: Probability that a dropped candidate is not among the best ``keep``, in [0.5, 1).
        keep: Number of best rows of all generations that must be kept; set it to the evolution's ``parents``.
        at_least: Number of pairs from which candidates are dropped; 5 or more.
        calibration: Share of the calibration images for BN statistics until the last stage, in (0, 1]. Below 1,
            survivors are then recalibrated in full and evaluated again on all images: this pays if recalibration is a
            large part of an evaluation and most candidates are dropped.

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
            raise DetNASError(
                f'racing.shares must be ascending numbers between 0 and 1, such as [0.25, 0.5]; got {shares}.'
            )
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
        """Returns the settings, JSON-ready."""
        names = ('shares', 'confidence', 'keep', 'at_least', 'calibration')
        return {name: getattr(self, name) for name in names}

    def stages(self, batches: int, calibration_batches: int = 0) -> list[Stage]:
        """Returns the batches that each stage adds: evaluation batches in a fixed random order, split at the shares.

        Args:
            batches: Number of evaluation batches.
            calibration_batches: Number of calibration batches.
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
        """Sets the objective; called once, before the first evaluation.

        Raises:
            ValueError: If there are several objectives: the worst in one may be the best in another.
        """
        if len(objectives) != 1:
            raise DetNASError(
                f'Racing needs exactly one objective; got {[o.name for o in objectives]}. Remove '
                f'evaluator.racing from the config, or all objectives but one.'
            )
        self._objective = objectives[0]
        self.observe([])

    def observe(self, records: Sequence[Record]) -> None:
        """Updates the regression with all rows of finished generations."""
        assert self._objective is not None  # set by setup
        self._ok = self._objective.best_first(records)
        enough = len(self._ok) >= self.keep
        self._threshold = self._objective.gain(self._ok[self.keep - 1]) if enough else -math.inf

    def prospect(self, images: int, metrics: dict[str, float]) -> float:
        """Returns the highest full value to expect of a candidate; larger is better in any direction.

        Args:
            images: Number of images it was evaluated on.
            metrics: Its metrics there.

        Returns:
            The upper end of the prediction interval; infinity as long as there is no prediction.
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
        """Returns the reason to drop a candidate after some images; None to keep it."""
        highest = self.prospect(images, metrics)
        if highest >= self._threshold:
            return None
        name = self._objective.name if self._objective else ''
        return (
            f'{name} is {metrics[name]:.4f} on {images:,} images: at {100 * self.confidence:g}% confidence out of the '
            f'best {self.keep} so far'
        )


def partial(row: Record | Evaluation) -> dict[str, dict[str, float]]:
    """Returns metrics on a part of the images, by number of images: not comparable with those on all images."""
    return row.details.get('partial', {})


def judged_on(row: Record | Evaluation) -> int | None:
    """Returns the number of images a candidate was evaluated on; None if it failed before."""
    return row.details.get('images')


def spared(records: Sequence[Record]) -> str:
    """Returns text with the share of images that racing saved in the last generation; empty if none was dropped."""
    last = [record for record in records if record.generation == records[-1].generation]
    full = max(judged_on(record) or 0 for record in records)
    if not full or not any(record.status == 'dropped' for record in last):
        return ''
    seen = sum(full if (own := judged_on(record)) is None else own for record in last)
    return f'saved {1 - seen / (full * len(last)):.0%} of the images'


def upper_bound(pairs: np.ndarray, x: float, confidence: float) -> float:
    """Returns the upper end of the one-sided prediction interval of simple linear regression.

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
