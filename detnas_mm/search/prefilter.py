"""Prefilter of offspring: draws more than needed, and evaluates those that a ranker predicts to be the best."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from detnas_mm.checks import real, whole
from detnas_mm.errors import ChecksInput, DetNASError
from detnas_mm.registry import RANKERS, build_from
from detnas_mm.search.record import Proposal, Record
from detnas_mm.spaces import Architecture

if TYPE_CHECKING:
    from detnas_mm.search.job import SearchJob


class Ranker(ChecksInput, ABC):
    """Predicts the order of candidates without evaluating them: a surrogate model or a zero-shot score."""

    def setup(self, job: SearchJob, model: Any = None) -> None:
        """Prepares the ranker; called once, before the search. ``model`` is for evaluators that are rankers too.

        Raises:
            ValueError: If the ranker cannot serve this search.
        """
        self.space = job.space
        self.objective = job.objectives[0]
        self.seed = job.seed

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Returns the settings that decide the order, JSON-ready."""

    def fit(self, records: Sequence[Record]) -> None:
        """Fits the ranker to the successful rows of finished generations; zero-shot scores ignore them."""

    @abstractmethod
    def scores(self, archs: Sequence[Architecture]) -> np.ndarray | None:
        """Returns an array of shape (candidates,), larger is better; None as long as there is no prediction."""


@RANKERS.register_module()
class SurrogateRanker(Ranker):
    """Predicts the objective from genes by a random forest (scikit-learn) fitted to the ledger's rows.

    Args:
        trees: Number of trees.
        at_least: Number of rows from which predictions start.

    Raises:
        ValueError: If one is no whole number of at least 1.
    """

    def __init__(self, trees: int = 200, at_least: int = 20) -> None:
        self.trees = whole('ranker.trees', trees, 1)
        self.at_least = whole('ranker.at_least', at_least, 1)
        self._model: Any = None

    def spec(self) -> dict[str, Any]:
        return dict(type='SurrogateRanker', trees=self.trees, at_least=self.at_least)

    def fit(self, records: Sequence[Record]) -> None:
        """See :meth:`Ranker.fit`."""
        self._model = None
        if len(records) < self.at_least:
            return
        from sklearn.ensemble import RandomForestRegressor

        self._model = RandomForestRegressor(self.trees, random_state=self.seed, n_jobs=1)
        archs = [self.space.parse(record.arch) for record in records]
        self._model.fit(self.space.encode(archs), [self.objective.gain(record) for record in records])

    def scores(self, archs: Sequence[Architecture]) -> np.ndarray | None:
        """See :meth:`Ranker.scores`."""
        return None if self._model is None else self._model.predict(self.space.encode(archs))


class Prefilter:
    """Draws several times as many offspring as needed, and keeps those that a ranker predicts to be the best.

    The ranker is checked all the time: a generation is filtered only if Spearman's rank correlation between prediction
    and evaluation in the generation before was high enough. A generation with fewer than five full evaluations, as
    racing may leave, does not change the correlation.

    Args:
        ranker: Config of a ranker.
        oversample: Offspring drawn for each one that is kept; 2 or more.
        min_correlation: Rank correlation in the last generation below which offspring are not filtered.

    Raises:
        ValueError: If a number does not fit.
    """

    def __init__(self, ranker: Any, oversample: int = 4, min_correlation: float = 0.3) -> None:
        if not -1 <= real('prefilter.min_correlation', min_correlation) < 1:
            raise DetNASError(f'prefilter.min_correlation must lie in [-1, 1); got {min_correlation}.')
        self.ranker: Ranker = build_from(RANKERS, ranker)
        self.oversample = whole('prefilter.oversample', oversample, 2)
        self.min_correlation = min_correlation

    def spec(self) -> dict[str, Any]:
        """Returns the settings, JSON-ready."""
        return dict(ranker=self.ranker.spec(), oversample=self.oversample, min_correlation=self.min_correlation)

    def setup(self, job: SearchJob) -> None:
        """Prepares the ranker; called once, before the search.

        Raises:
            ValueError: If there are several objectives.
        """
        if len(job.objectives) != 1:
            raise DetNASError(
                f'A prefilter needs exactly one objective; got {[o.name for o in job.objectives]}. Remove '
                f'strategy.prefilter '
                f'from the config, or all objectives but one.'
            )
        self.ranker.setup(job)
        self.objective = job.objectives[0]
        self.correlation = math.nan
        self.active = False
        self._said: dict[str, float] = {}

    def begin(self, records: Sequence[Record]) -> None:
        """Fits the ranker to all rows so far; called before a generation is drawn."""
        self.ranker.fit([record for record in records if record.ok])
        self.active = self.correlation >= self.min_correlation

    def choose(self, count: int, draw: Callable[[int], list[Proposal]]) -> tuple[list[Proposal], list[Proposal]]:
        """Draws offspring; returns those to evaluate, in the order drawn, and those left out."""
        drawn = draw(count * self.oversample if self.active else count)
        scores = self.ranker.scores([p.arch for p in drawn]) if self.active and drawn else None
        if scores is None:
            return drawn[:count], drawn[count:]
        kept = set(np.argsort(-scores, kind='stable')[:count].tolist())
        return [p for i, p in enumerate(drawn) if i in kept], [p for i, p in enumerate(drawn) if i not in kept]

    def predict(self, proposals: Sequence[Proposal]) -> None:
        """Records the ranker's predictions for a whole generation."""
        scores = self.ranker.scores([p.arch for p in proposals]) if proposals else None
        self._said = {} if scores is None else {p.arch.id: float(s) for p, s in zip(proposals, scores, strict=True)}

    def tell(self, records: Sequence[Record]) -> None:
        """Compares the predictions with the evaluated rows."""
        from scipy.stats import spearmanr

        pairs = [(self._said[r.id], self.objective.gain(r)) for r in records if r.ok and r.id in self._said]
        columns = np.array(pairs).reshape(-1, 2).T
        if 0 < len(pairs) < 5:
            return
        if not pairs or any(np.ptp(column) == 0 for column in columns):
            self.correlation = math.nan
        else:
            self.correlation = float(spearmanr(*columns).statistic)

    def __str__(self) -> str:
        name = type(self.ranker).__name__
        if math.isnan(self.correlation):
            return f'{name} has nothing to show yet'
        off = '' if self.correlation >= self.min_correlation else ', which is too little: not filtered'
        return f'{name} ranked them with a correlation of {self.correlation:.2f}{off}'
