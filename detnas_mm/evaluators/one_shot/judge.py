"""From the predictions of a chunk of candidates to their evaluations."""

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

#: What the metric keeps of predictions, by candidate's end and batch.
Predictions = dict[int, dict[int, list]]


class Judge:
    """Judges the candidates of a tree, stage by stage. Ranks share the work and come to the same results.

    Candidates without detections fail, those without prospects are dropped.

    Args:
        tree: The candidates.
        metric: What candidates are judged by.
        racing: Decides who is dropped after a share of the images, where there are several stages.

    Attributes:
        prediction_seconds: How long predictions took so far, ranks' exchange of them included.
    """

    def __init__(self, tree: PathTree, metric: BaseMetric, racing: Racing | None = None) -> None:
        self.tree = tree
        self.metric = metric
        self.racing = racing
        self._ends = list(dict.fromkeys(node.number for node in tree.ends))  # equal candidates have the same
        self._own = self._ends[get_rank() :: get_world_size()]  # whom this rank judges
        self._found: Predictions = {end: {} for end in self._own}
        self._judged: dict[int, Evaluation] = {end: Evaluation() for end in self._ends}
        self.prediction_seconds = 0.0

    def judge(self, predict: Callable[[], Predictions], last: bool) -> None:
        """Takes the predictions of a stage, and computes the metric on all that was predicted so far.

        Args:
            predict: Makes this rank's share.
            last: Whether this is the last stage.

        Raises:
            OutOfMemory: On all ranks, if one of them had no memory left.
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
        """How each candidate did so far."""
        return [self._judged[node.number] for node in self.tree.ends]

    def _verdict(self, end: int, last: bool) -> Evaluation:
        so_far = self._judged[end]
        rows = [row for _, batch in sorted(self._found[end].items()) for row in batch]
        images = len(rows)
        start = time.perf_counter()
        metrics = compute(self.metric, rows, part=not last)
        clock = dict(metric=so_far.time.get('metric', 0.0) + time.perf_counter() - start)
        if last:
            failure = None if metrics else 'no detections'
            details = so_far.details | dict(images=images)
            return replace(so_far, metrics=metrics, failure=failure, time=clock, details=details)
        dropped = self.racing.verdict(images, metrics) if self.racing and metrics else None
        shares = {**so_far.details.get('partial', {}), str(images): metrics}
        return replace(so_far, dropped=dropped, time=clock, details=dict(images=images, partial=shares))
