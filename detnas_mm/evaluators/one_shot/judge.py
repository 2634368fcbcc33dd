"""Computes evaluations from the predictions of a chunk of candidates."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.evaluator import BaseMetric

from detnas_mm.evaluators.detection.metrics import compute
from detnas_mm.evaluators.one_shot.path_tree import PathTree
from detnas_mm.evaluators.one_shot.racing import Racing
from detnas_mm.evaluators.ranks import deal, jointly
from detnas_mm.search import Evaluation
from detnas_mm.search.record import NO_DETECTIONS

#: Data of the metric for predictions, by candidate's end and batch.
Predictions = dict[int, dict[int, list]]


class Judge:
    """Evaluates the candidates of a tree, stage by stage. Ranks share the work and get the same results.

    Candidates without detections fail; racing drops those that are unlikely to be among the best.

    Args:
        tree: The candidates.
        metric: The metric of candidates.
        racing: Decides which candidates are dropped after a share of the images, if there are several stages.

    Attributes:
        prediction_seconds: Seconds that predictions took so far, exchange between ranks included.
    """

    def __init__(self, tree: PathTree, metric: BaseMetric, racing: Racing | None = None) -> None:
        self.tree = tree
        self.metric = metric
        self.racing = racing
        self._ends = list(dict.fromkeys(node.number for node in tree.ends))  # equal candidates share one
        self._own = self._ends[get_rank() :: get_world_size()]  # candidates of this rank
        self._found: Predictions = {end: {} for end in self._own}
        self._judged: dict[int, Evaluation] = {end: Evaluation() for end in self._ends}
        self.prediction_seconds = 0.0

    def judge(self, predict: Callable[[], Predictions], last: bool) -> None:
        """Adds the predictions of a stage, and computes the metric on all predictions so far.

        Args:
            predict: Function that computes this rank's share.
            last: Whether this is the last stage.

        Raises:
            OutOfMemory: On all ranks, if one of them ran out of memory.
        """
        start = time.perf_counter()
        parts = jointly(predict, partial(deal, self._ends))
        self.prediction_seconds += time.perf_counter() - start
        for part in parts:
            for end, batches in part.items():
                self._found[end].update(batches)
        going_on = {n.number for candidate, n in enumerate(self.tree.ends) if self.tree.goes_on(candidate)}
        own = {end: self._verdict(end, last) for end in self._own if end in going_on}
        for part in all_gather_object(own):
            self._judged.update(part)
        for node in self.tree.ends:
            node.failure = node.failure or self._judged[node.number].failure
            node.dropped = self._judged[node.number].dropped

    @property
    def evaluations(self) -> list[Evaluation]:
        """Returns the evaluation of each candidate so far."""
        return [self._judged[node.number] for node in self.tree.ends]

    def _verdict(self, end: int, last: bool) -> Evaluation:
        so_far = self._judged[end]
        rows = [row for _, batch in sorted(self._found[end].items()) for row in batch]
        images = len(rows)
        start = time.perf_counter()
        metrics = compute(self.metric, rows, part=not last)
        clock = dict(metric=so_far.time.get('metric', 0.0) + time.perf_counter() - start)
        if last:
            failure = None if metrics else NO_DETECTIONS
            details = so_far.details | dict(images=images)
            return replace(so_far, metrics=metrics, failure=failure, time=clock, details=details)
        dropped = self.racing.verdict(images, metrics) if self.racing and metrics else None
        shares = {**so_far.details.get('partial', {}), str(images): metrics}
        return replace(so_far, dropped=dropped, time=clock, details=dict(images=images, partial=shares))
