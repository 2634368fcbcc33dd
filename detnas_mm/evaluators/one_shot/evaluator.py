"""One-shot evaluation of DetNAS: paths of the trained supernet on search-val, with recalibrated BN."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from torch import nn

from detnas_mm.checks import flag, real, whole
from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.detection import dense_boxes, roi_boxes
from detnas_mm.evaluators.detection.batches import FixedBatches, checked_loader
from detnas_mm.evaluators.detection.metrics import available, build_metric, metric_spec
from detnas_mm.evaluators.detection.truth import compare_truth
from detnas_mm.evaluators.numerics import checked_precision, numerics
from detnas_mm.evaluators.one_shot import bn_recalibration
from detnas_mm.evaluators.one_shot.calibration import Calibration, norms_to_recalibrate
from detnas_mm.evaluators.one_shot.judge import Judge, Predictions
from detnas_mm.evaluators.one_shot.path_tree import Node, PathTree, replayed
from detnas_mm.evaluators.one_shot.racing import Racing, Stage, spared
from detnas_mm.evaluators.ranks import OutOfMemory
from detnas_mm.evaluators.temporary import quiet
from detnas_mm.models import find_supernet
from detnas_mm.models.subnet import slice_state_dict
from detnas_mm.registry import EVALUATORS, build_from
from detnas_mm.search import Evaluation, Evaluator, Record, SearchJob
from detnas_mm.spaces import Architecture


@EVALUATORS.register_module()
class OneShotEvaluator(Evaluator):
    """Evaluates paths of a trained supernet: recalibrates BN on training images, evaluates on search-val.

    Calibration follows the training: BN layers that are in evaluation mode during training (``norm_eval``,
    ``frozen_stages``) keep their statistics, and normalise by them while the others are recalibrated.

    The model is restored after each candidate, so their order does not matter. With several ranks, each processes its
    share of the batches, of calibration and of evaluation, and computes the metric of its share of the candidates; all
    ranks return the same scores.

    Args:
        dataloader: Dataloader config of search-val, as for mmengine. Order and batches are fixed; samplers are ignored.
        metric: Config of one metric, such as ``dict(type='mmdet.CocoMetric', …)``.
        calibration: Training images for BN: ``dict(dataloader=…, num_images=500, seed=0)``. Use the training pipeline
            without its random steps. None keeps the supernet's own statistics: correct if all BN was frozen in
            training; otherwise these mix all paths, which is useful only to see the effect of calibration.
        cache_mb: Megabytes of loaded images to cache, for each of the two sets, on each rank.
        chunk_size: Number of candidates evaluated together; 0 for a whole generation. They share the segments that
            their paths have in common, and images are loaded once for all. Scores do not depend on it; a crash loses
            one chunk, and the progress bar moves by chunks. Defaults to 10.
        racing: Arguments of :class:`Racing`, such as ``dict(shares=[0.25, 0.5], confidence=0.99, keep=10)``: candidates
            unlikely to be among the best are evaluated on a share of the images only. Defaults to None: all images.
        precision: ``'fp16'`` or ``'bf16'`` runs the network under autocast. Defaults to ``'fp32'``.
        channels_last: Uses channels_last memory format, which is faster with many depthwise
            convolutions. Scores differ in their last bits; exported nets are tested in the same layout. Defaults to
            False.

    Raises:
        ValueError: If a setting does not fit; on :meth:`setup`, if the data do not, or calibration is given but
            training froze all BN.
    """

    needs_model = True

    def __init__(
        self,
        dataloader: Mapping[str, Any],
        metric: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        calibration: Mapping[str, Any] | None,
        cache_mb: float = 2048,
        chunk_size: int = 10,
        racing: Mapping[str, Any] | None = None,
        precision: str = 'fp32',
        channels_last: bool = False,
    ) -> None:
        self.chunk_size = whole('evaluator.chunk_size', chunk_size)
        self.dataloader = checked_loader('evaluator.dataloader', dataloader)
        self.metric_cfg = metric
        self.cache_mb = real('evaluator.cache_mb', cache_mb)
        if calibration is not None:
            unknown = set(calibration) - {'dataloader', 'num_images', 'seed'}
            if unknown or 'dataloader' not in calibration:
                raise DetNASError(
                    f'calibration must be dict(dataloader=…, num_images=500, seed=0) or None; got keys '
                    f'{sorted(calibration)}.'
                )
            loader = checked_loader('evaluator.calibration.dataloader', calibration['dataloader'])
            calibration = {**calibration, 'dataloader': loader}
        self.calibration_cfg = calibration
        self.racing = None if racing is None else build_from(EVALUATORS, racing, type=Racing)
        self.precision = checked_precision(precision)
        self.channels_last = flag('evaluator.channels_last', channels_last)
        self._helped = False  # whether the metric alone would count other images or boxes

    def check(self, job: SearchJob) -> None:
        """See :meth:`Evaluator.check`."""
        if self.racing is not None:
            self.racing.setup(job.objectives)

    def setup(self, job: SearchJob, model: Any = None) -> None:
        """See :meth:`Evaluator.setup`. The active path and the model's modes are kept."""
        self.check(job)
        self.model: nn.Module = model.module if is_model_wrapper(model) else model
        self.supernet = find_supernet(self.model)
        self.supernet.check_space(job.space)
        self._norms = bn_recalibration.batch_norms(self.model)
        norms = {} if self.calibration_cfg is None else norms_to_recalibrate(self.model)
        self.batches = FixedBatches(self.dataloader, cache_mb=self.cache_mb, key='search.evaluator.dataloader')
        self.metric = build_metric(self.metric_cfg, self.batches.metainfo)
        dataset, read = self.batches.dataset, self.batches.indices
        self._helped = compare_truth(self.metric, self.metric_cfg, dataset, read)
        self.calibration: Calibration | None = None
        if self.calibration_cfg is not None:
            self.calibration = Calibration(self.model, norms, **self.calibration_cfg, cache_mb=self.cache_mb)
            if self.calibration.frozen:
                job.log(self.calibration.frozen_line())

    def spec(self) -> dict[str, Any]:
        spec = dict(
            type='OneShotEvaluator',
            images=len(self.batches.indices),
            batch_size=self.batches.batch_size,
            images_digest=self.batches.fingerprint(),
            **metric_spec(self.metric, self.metric_cfg),
        )
        if self.precision != 'fp32' or self.channels_last:
            spec['numerics'] = dict(precision=self.precision, channels_last=self.channels_last)
        if self.racing is not None:
            spec['racing'] = self.racing.spec()
        return spec | dict(calibration=self.calibration and self.calibration.spec())

    def observe(self, records: Sequence[Record]) -> None:
        """See :meth:`Evaluator.observe`: racing learns from past generations."""
        if self.racing is not None:
            self.racing.observe(records)

    def remark(self, records: Sequence[Record]) -> str:
        """See :meth:`Evaluator.remark`: the share of images that racing saved."""
        return '' if self.racing is None else spared(records)

    def evaluate(self, archs: Sequence[Architecture]) -> Iterator[Evaluation]:
        """See :meth:`Evaluator.evaluate`. Out of memory, values that are not finite, and no detections are failures."""
        size = self.chunk_size or len(archs) or 1
        for first in range(0, len(archs), size):
            yield from self._chunk(archs[first : first + size])

    def _chunk(self, chunk: Sequence[Architecture]) -> Iterator[Evaluation]:
        """Evaluates candidates together; one by one if memory runs out, so that only those that need it fail."""
        clock = dict(recalibration=0.0)
        try:
            with self._untouched():
                judge = Judge(self._tree(chunk), self.metric, self.racing)
                stages = self._stages()
                for stage in stages:
                    if not judge.tree.open:
                        break
                    start = time.perf_counter()
                    if self.calibration is not None and stage.calibration:
                        self.calibration.recalibrate(judge.tree, stage.calibration)
                    clock['recalibration'] += (time.perf_counter() - start) / len(chunk)
                    self._score(judge, stage.evaluation, last=stage is stages[-1])
                clock['prediction'] = judge.prediction_seconds / len(chunk)
        except OutOfMemory as failure:
            if len(chunk) == 1:
                yield Evaluation(failure=str(failure), time=clock)
            else:
                for arch in chunk:
                    yield from self._chunk([arch])
            return
        for candidate, judged in enumerate(judge.evaluations):
            reason = judge.tree.failure(candidate)
            yield Evaluation(failure=reason, time=clock) if reason else replace(judged, time=clock | judged.time)

    def _stages(self) -> list[Stage]:
        calibration = 0 if self.calibration is None else len(self.calibration)
        if self.racing is None:
            return [Stage(list(range(calibration)), list(range(len(self.batches))))]
        return self.racing.stages(len(self.batches), calibration)

    @contextlib.contextmanager
    def recalibrated(self, arch: Architecture) -> Iterator[nn.Module]:
        """Yields the model in evaluation mode with an active path and its recalibrated BN; restores it after."""
        with self._untouched():
            tree = self._tree([arch])
            if self.calibration is not None:
                self.calibration.recalibrate(tree, range(len(self.calibration)))
            bn_recalibration.apply(self._norms, tree.statistics(0))
            self.supernet.set_path(arch)
            self.model.eval()
            yield self.model

    def weights(self, arch: Architecture) -> dict[str, Any]:
        """See :meth:`Evaluator.weights`: the supernet's weights with the candidate's own BN statistics."""
        prefix = next(f'{name}.' for name, module in self.model.named_modules() if module is self.supernet)
        with self.recalibrated(arch) as model:
            state = {key: value.detach().cpu() for key, value in model.state_dict().items()}
            return slice_state_dict(state, arch, self.supernet, prefix)

    def rescoring(self, cfg: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`Evaluator.rescoring`; uses the memory format and the images of the search."""
        out = copy.deepcopy(cfg)
        hooks = []
        if self.channels_last:
            hooks.append(dict(type='detnas_mm.ChannelsLastHook', evaluation=True))
        if self._helped:
            hooks.append(dict(type='detnas_mm.TruthHook'))
        if hooks:
            out['custom_hooks'] = [*(out.get('custom_hooks') or ()), *hooks]
        dataloader = {'sampler': dict(type='DefaultSampler', shuffle=False), **self.dataloader}
        out['val_dataloader'] = out['test_dataloader'] = dataloader
        out['val_evaluator'] = out['test_evaluator'] = available(self.metric_cfg)
        out['val_cfg'] = dict(type='ValLoop')
        out['test_cfg'] = dict(type='TestLoop')
        return out

    @contextlib.contextmanager
    def _untouched(self) -> Iterator[None]:
        before = self.supernet.active_path
        with (
            bn_recalibration.restored(self.model),
            bn_recalibration.local_batch_norm(self.model),
            numerics(self.model, self.precision, self.channels_last),
        ):
            try:
                yield
            finally:
                self.supernet.set_path(before)

    def _tree(self, archs: Sequence[Architecture]) -> PathTree:
        return PathTree([self.supernet.segments(arch) for arch in archs])

    @torch.no_grad()
    def _score(self, judge: Judge, batches: Sequence[int], last: bool) -> None:
        """Predicts with all candidates, and evaluates the predictions."""
        with quiet(), dense_boxes.together(self.model), roi_boxes.together(self.model):
            judge.judge(partial(self._predict, judge.tree, batches), last)

    def _predict(self, tree: PathTree, batches: Sequence[int]) -> Predictions:
        """Returns the metric's data of this rank's share of some batches."""

        def enter(node: Node) -> None:
            bn_recalibration.apply(self._norms, node.statistics)

        results: Predictions = {node.number: {} for node in tree.ends}
        self.model.eval()
        for unit, data in self.batches.walk(batches, tree.parts):
            inputs = self.model.data_preprocessor(data, False)
            for node, outputs in tree.walk(inputs['inputs'], enter, unit.part, unit.parts):
                with replayed(self.supernet, outputs):
                    samples = self.model(**inputs, mode='predict')
                del outputs  # frees memory before the next candidate
                self.metric.process(data, [sample.to_dict() for sample in samples])
                results[node.number][unit.batch] = self.metric.results
                self.metric.results = []
        return results
