"""An evaluator on a trained supernet, as a search sets it up: shared by the slow tests of evaluators."""

import copy

import torch
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint

from detnas_mm.engine import SearchPlan
from tests import digits

PATHS = ['0|0|00|0', '2|2|22|2', '3|3|33|3', '1|0|21|3', '2|3|01|0', '0|2|13|1', '3|1|20|2', '1|1|11|1']


class Judge:
    """An evaluator with its model, set up as a search does it."""

    def __init__(self, detector, checkpoint, tmp, **changes):
        part = 'model__test_cfg__rcnn__score_thr' if detector == 'fpn' else 'model__test_cfg__score_thr'
        changes = {part: 0.001, 'search__evaluator__calibration__num_images': 60, **changes}
        self.cfg = digits.config(f'detnas-digits_search_{detector}', tmp / 'search', **changes)
        with digits.scope():
            self.model = MODELS.build(copy.deepcopy(self.cfg.model))
            load_checkpoint(self.model, str(checkpoint), map_location='cpu')
            plan = SearchPlan(self.cfg.search)
            self.space, self.evaluator = plan.space, plan.evaluator
            self.evaluator.setup(self.space, self.model)

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
