"""An evaluator on a trained supernet, as a search sets it up: shared by the slow tests of evaluators."""

import copy
import sys
from dataclasses import dataclass

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS
from mmengine.runner import Runner, load_checkpoint

from detnas_mm.engine.config import fit_to_machine
from detnas_mm.engine.export import Exporter
from detnas_mm.models.subnet import slice_state_dict
from detnas_mm.search import SearchJob
from tests import digits

PATHS = ['0|0|00|0', '2|2|22|2', '3|3|33|3', '1|0|21|3', '2|3|01|0', '0|2|13|1', '3|1|20|2', '1|1|11|1']


class Judge:
    """An evaluator with its model, set up as a search does it."""

    def __init__(self, detector, checkpoint, tmp, **changes):
        part = 'model__test_cfg__rcnn__score_thr' if detector == 'fpn' else 'model__test_cfg__score_thr'
        changes = {part: 0.001, 'search__evaluator__calibration__num_images': 60, **changes}
        self.cfg = digits.written(f'detnas-digits_search_{detector}', tmp / 'search', **changes)
        with digits.scope():
            self.model = MODELS.build(copy.deepcopy(fit_to_machine(self.cfg).model)).to(get_device())
            load_checkpoint(self.model, str(checkpoint), map_location='cpu')
            self.job = SearchJob.from_config(self.cfg)
            self.space, self.evaluator = self.job.space, self.job.evaluator
            self.evaluator.setup(self.job, self.model)

    def path(self, text):
        return self.space.parse(text)

    def metrics(self, texts):
        return [e.metrics for e in self.evaluator.evaluate([self.path(t) for t in texts])]

    def predictions(self, text):
        """Boxes, scores and labels of all images of search-val, the path recalibrated."""
        with self.evaluator.recalibrated(self.path(text)):
            return raw_predictions(self.model, self.evaluator.batches)


def raw_predictions(model, batches):
    with torch.no_grad():
        samples = [sample for _, data in batches.walk(range(len(batches))) for sample in model.test_step(data)]
    return [torch.cat([p.bboxes, p.scores[:, None], p.labels[:, None]], 1) for p in (s.pred_instances for s in samples)]


@dataclass
class Compared:
    """Results of a candidate of a generation, and of the same net exported and run through mmengine's Runner.test.

    Each is a pair, ours and theirs: state dicts, what the metric was handed of all images, and the unrounded mAP.
    """

    buffers: tuple
    rows: tuple
    scores: tuple


def compared_with_exported(judge, texts, folder, monkeypatch):
    """Evaluates paths together, then exports them one by one and tests them; yields a :class:`Compared` for each."""
    evaluator, archs, kept = judge.evaluator, [judge.path(text) for text in texts], []
    predict = evaluator._predict
    with monkeypatch.context() as patch:
        patch.setattr(evaluator, 'chunk_size', 0)
        patch.setattr(evaluator, '_predict', lambda *args: kept.append((args[0], predict(*args))) or kept[-1][1])
        evaluations = list(evaluator.evaluate(archs))
    ((tree, predictions),) = kept
    for candidate, (arch, evaluation) in enumerate(zip(archs, evaluations, strict=True)):
        with digits.scope():
            files = Exporter(judge.job).write(arch, folder / arch.id, {})
        state = {name: value.cpu() for name, value in judge.model.state_dict().items()}
        for name, (mean, var) in tree.statistics(candidate).items():
            state[f'{name}.running_mean'], state[f'{name}.running_var'] = mean.cpu(), var.cpu()
        ours = slice_state_dict(state, arch, evaluator.supernet, 'backbone.')
        theirs = torch.load(files['checkpoint'], weights_only=True, map_location='cpu')['state_dict']
        rows, score = unrounded_test(files['search_val'], files['checkpoint'], folder, monkeypatch)
        batches = predictions[tree.ends[candidate].number]
        own = [row for _, batch in sorted(batches.items()) for row in batch]
        yield Compared((ours, theirs), (own, rows), (evaluation.metrics['coco/bbox_mAP'], score))


def unrounded_test(config, checkpoint, folder, monkeypatch):
    """Returns what mmengine's test of an exported net passes to the metric, and the mAP before mmdet rounds it."""
    cfg = fit_to_machine(Config.fromfile(config))
    cfg.work_dir, cfg.load_from, cfg.log_level = str(folder), str(checkpoint), 'ERROR'
    cfg.experiment_name = f'together-{checkpoint.stem}-{id(cfg)}'
    runner = Runner.from_cfg(cfg)
    (metric,) = runner.test_loop.evaluator.metrics
    rows, stats = [], []
    compute, module = metric.compute_metrics, sys.modules[type(metric).__module__]
    monkeypatch.setattr(metric, 'compute_metrics', lambda results: rows.extend(results) or compute(results))
    with monkeypatch.context() as patch:
        for name in ('COCOeval_faster', 'COCOeval', 'COCOevalMP'):
            original = getattr(module, name, None)
            if original is not None:

                class Watched(original):
                    def summarize(self, *args):
                        result = super().summarize(*args)
                        stats.append(float(self.stats[0]))
                        return result

                patch.setattr(module, name, Watched)
        runner.test()
    (score,) = stats
    return rows, score
