"""The one-shot evaluation of DetNAS: a path of the trained supernet, its BN recalibrated, on search-val."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, broadcast_object_list, is_main_process
from mmengine.model import is_model_wrapper
from torch import nn

from detnas_mm.evaluators import bn_recalibration
from detnas_mm.evaluators.base import Evaluator
from detnas_mm.evaluators.batches import FixedBatches
from detnas_mm.evaluators.metrics import build_metric, compute, quiet
from detnas_mm.models import find_supernet
from detnas_mm.registry import EVALUATORS
from detnas_mm.search import Evaluation
from detnas_mm.spaces import Architecture, SearchSpace


class _CandidateFailed(Exception):
    """Raised where a candidate cannot be scored; the message is the reason."""


@EVALUATORS.register_module()
class OneShotEvaluator(Evaluator):
    """Activate path → reset BN statistics → recalibrate on training images → evaluate on search-val → restore.

    Whoever is evaluated leaves no trace in the model, so order cannot matter. With several ranks each takes its share
    of the batches, of calibration and of evaluation; rank 0 judges, and all ranks return the same scores.

    Args:
        dataloader: Search-val: mmengine's dataloader config. Order and batches are fixed; samplers are ignored.
        metric: Config of one metric, such as ``dict(type='mmdet.CocoMetric', …)``.
        calibration: The training images for BN: ``dict(dataloader=…, num_images=500, seed=0)``. Their pipeline should
            be the training one without what is random, so that statistics are those of the images as they are. None
            leaves the supernet's own statistics in force, which mix all paths: only to see what that costs.
        cache_mb: Megabytes of loaded images to keep, for each of the two sets, on each rank.

    Raises:
        ValueError: On :meth:`setup`, if the data do not fit.
    """

    needs_model = True

    def __init__(
        self,
        dataloader: Mapping[str, Any],
        metric: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        calibration: Mapping[str, Any] | None,
        cache_mb: float = 2048,
    ) -> None:
        self.dataloader = dataloader
        self.metric_cfg = metric
        self.cache_mb = cache_mb
        if calibration is not None:
            unknown = set(calibration) - {'dataloader', 'num_images', 'seed'}
            if unknown or 'dataloader' not in calibration:
                raise ValueError(
                    f'calibration is dict(dataloader=…, num_images=500, seed=0) or None; got {sorted(calibration)}.'
                )
        self.calibration_cfg = calibration

    def setup(self, space: SearchSpace, model: Any = None, seed: int = 0) -> None:
        """See :meth:`Evaluator.setup`. The path in force and the model's modes are kept."""
        self.model: nn.Module = model.module if is_model_wrapper(model) else model
        self.supernet = find_supernet(self.model)
        if self.supernet.space.spec() != space.spec():
            raise ValueError(
                f"The search's space is not the supernet's: {space.spec()} and {self.supernet.space.spec()}. "
                f'Give both the same.'
            )
        self.batches = FixedBatches(self.dataloader, cache_mb=self.cache_mb)
        self.metric = build_metric(self.metric_cfg, self.batches.metainfo)
        self.calibration: FixedBatches | None = None
        if self.calibration_cfg is not None:
            self.calibration = FixedBatches(
                self.calibration_cfg['dataloader'],
                num_images=self.calibration_cfg.get('num_images', 500),
                seed=self.calibration_cfg.get('seed', 0),
                whole_batches=True,
                cache_mb=self.cache_mb,
            )
        self._scope = self._recalibrated_part()

    def spec(self) -> dict[str, Any]:
        metric = json.dumps(self.metric_cfg, sort_keys=True, default=str)
        spec = dict(
            type='OneShotEvaluator',
            images=len(self.batches.indices),
            batch_size=self.batches.batch_size,
            images_digest=self.batches.fingerprint(),
            metric=type(self.metric).__name__,
            metric_digest=hashlib.sha256(metric.encode()).hexdigest()[:16],
        )
        if self.calibration is None:
            return spec | dict(calibration=None)
        return spec | dict(
            calibration=dict(
                images=len(self.calibration.indices),
                batch_size=self.calibration.batch_size,
                images_digest=self.calibration.fingerprint(),
                part=self._scope,
            )
        )

    def evaluate(self, archs: Sequence[Architecture]) -> Iterator[Evaluation]:
        """See :meth:`Evaluator.evaluate`. Out of memory, values that are not finite, and no detections are failures."""
        for arch in archs:
            yield self._evaluate(arch)

    def _evaluate(self, arch: Architecture) -> Evaluation:
        start = time.perf_counter()
        clock = {}
        try:
            with self.recalibrated(arch):
                clock['recalibration'] = time.perf_counter() - start
                metrics = self._score()
                clock['evaluation'] = time.perf_counter() - start - clock['recalibration']
        except _CandidateFailed as failure:
            return Evaluation(failure=str(failure), time=clock)
        return Evaluation(metrics, time=clock)

    @contextlib.contextmanager
    def recalibrated(self, arch: Architecture) -> Iterator[nn.Module]:
        """The model in evaluation mode with a path in force and its BN statistics recalibrated; restored after."""
        before = self.supernet.active_path
        with bn_recalibration.restored(self.model), bn_recalibration.local_batch_norm(self.model):
            try:
                self.supernet.set_path(arch)
                if self.calibration is not None:
                    bn_recalibration.apply(self.model, self._statistics())
                self.model.eval()
                yield self.model
            finally:
                self.supernet.set_path(before)

    # -- recalibration ------------------------------------------------------------------------------------------

    def _statistics(self) -> bn_recalibration.Statistics:
        assert self.calibration is not None
        calibration = self.calibration
        own = self._jointly(lambda: bn_recalibration.collect(self.model, iter(calibration), self._forward))
        merged = {number: batch for part in own for number, batch in part.items()}
        statistics = bn_recalibration.average(merged)
        broken = bn_recalibration.not_finite(statistics)
        if broken:
            raise _CandidateFailed(f'recalibrated BN statistics of {broken[0]} are not finite')
        return statistics

    def _recalibrated_part(self) -> str:
        """The smallest part of the model that holds all BN layers: ``'backbone'``, ``'neck'`` or ``'model'``.

        Heads, losses and proposals are not run where they have nothing to recalibrate.
        """
        parts = {name.split('.')[0] for name in bn_recalibration.batch_norms(self.model)}
        if parts <= {'backbone'}:
            return 'backbone'
        return 'neck' if parts <= {'backbone', 'neck'} and hasattr(self.model, 'extract_feat') else 'model'

    def _forward(self, data: Any) -> None:
        """Runs that part. Heads with BN see training RoIs, drawn from a seed that is the batch's own."""
        data = self.model.data_preprocessor(data, False)
        if self._scope == 'backbone':
            self.model.backbone(data['inputs'])
        elif self._scope == 'neck':
            self.model.extract_feat(data['inputs'])
        else:
            names = [os.path.basename(str(getattr(sample, 'img_path', ''))) for sample in data['data_samples']]
            with _seeded(_stable_seed(names)):
                self.model(**data, mode='loss')

    # -- evaluation ---------------------------------------------------------------------------------------------

    def _score(self) -> dict[str, float]:
        def predict() -> dict[int, list]:
            results = {}
            for number, data in self.batches:
                with torch.no_grad():
                    samples = self.model.test_step(data)
                self.metric.process(data, [sample.to_dict() for sample in samples])
                results[number] = self.metric.results
                self.metric.results = []
            return results

        with quiet():
            merged = {number: part for own in self._jointly(predict) for number, part in own.items()}
        box: list[Any] = [None]
        if is_main_process():
            box[0] = compute(self.metric, [row for number in sorted(merged) for row in merged[number]])
        broadcast_object_list(box)
        if not box[0]:
            raise _CandidateFailed('no detections')
        return box[0]

    def _jointly(self, work: Any) -> list[Any]:
        """Runs this rank's share and gathers all; a rank that runs out of memory fails the candidate on all ranks."""
        failure, own = None, None
        try:
            own = work()
        except (MemoryError, torch.OutOfMemoryError) as error:
            failure = f'out of memory: {str(error).splitlines()[0] if str(error) else type(error).__name__}'
        except RuntimeError as error:
            if 'allocate memory' not in str(error):
                raise
            failure = f'out of memory: {str(error).splitlines()[0]}'
        gathered = all_gather_object((failure, own))
        for failure, _ in gathered:
            if failure:
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                raise _CandidateFailed(failure)
        return [part for _, part in gathered]


def _stable_seed(values: Sequence[Any]) -> int:
    return int.from_bytes(hashlib.sha256(repr(values).encode()).digest()[:4], 'big')


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds all random generators, and puts their states back after."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
