"""Searches whose candidates are trained: toy detectors on Digits for a few iterations. Shared by tests."""

import json
import re
import shutil

import torch

from detnas_mm.evaluators.training.folder import CANDIDATES, work_of
from detnas_mm.search import read_ledger
from detnas_mm.search.record import VOLATILE
from detnas_mm.workers import Outcome, Workers, read_result, write_result
from tests import digits
from tests.jobs import prepared
from tests.test_toys import detectors  # noqa: F401  (registers DetectorSpace)

ITERATIONS = 6


def config(folder, evaluator=None, generations=1, population=4, **changes):
    """The config of a search; all four detectors of the space by default."""
    cfg = digits.written('detnas-digits_net_retinanet', folder, **(dict(model__test_cfg__score_thr=0.0) | changes))
    val = cfg.test_dataloader.to_dict()
    val['dataset'] |= dict(ann_file='annotations/instances_search_val.json', data_prefix=dict(img='search_val/'))
    cfg.val_dataloader = val
    cfg.val_evaluator = cfg.test_evaluator.to_dict()
    cfg.val_evaluator.ann_file = cfg.val_evaluator.ann_file.replace('_test', '_search_val')
    cfg.val_cfg = dict(type='ValLoop')
    for part in ('train', 'val', 'test'):
        for step in cfg[f'{part}_dataloader'].dataset.pipeline:
            if step.type == 'Resize':
                step.keep_ratio = False
    cfg.train_dataloader.batch_size = 4
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=ITERATIONS)
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=2)
    cfg.search = dict(
        space=dict(type='DetectorSpace'),
        strategy=dict(type='RandomStrategy', population=population),
        evaluator=dict(type='ShortTraining', trials=0) | (evaluator or {}),
        objectives=[dict(name='coco/bbox_mAP')],
        budget=dict(generations=generations),
        export=dict(top_k=2),
    )
    return cfg


def job(cfg, log=lambda text: None):
    """The search of a config, parsed and checked."""
    made = prepared(cfg, log)
    made.show_progress = False
    return made


#: Of the four detectors of the space, as the fake trains them.
SCORES = {'RetinaHead@64': 0.1, 'RetinaHead@96': 0.2, 'GFLHead@64': 0.3, 'GFLHead@96': 0.4}


class FakeWorkers(Workers):
    """Writes results at once; remembers what it was asked for.

    Args:
        scores: Metric of each architecture; at a rung, of the negative where ``turning``.
        failing: Reason, or a whole result, by architecture.
        lost: How often each is lost.
        stop_after: Trainings after which the driver is stopped.
    """

    def __init__(self, scores=None, failing=(), lost=(), stop_after=None, turning=False, longest=None):
        super().__init__(2, 1)
        self.scores, self.failing, self.lost = scores or SCORES, dict(failing), dict(lost)
        self.stop_after, self.turning, self.longest = stop_after, turning, longest
        self.ran, self.tasks = [], []

    def run(self, tasks):
        for place, task in reversed(list(enumerate(tasks))):  # they finish in another order
            standing = read_result(task.folder, task.key)
            if standing is not None:
                yield place, Outcome(standing)
                continue
            if self.stop_after is not None and len(self.ran) >= self.stop_after:
                raise KeyboardInterrupt
            yield place, self._outcome(task)

    def _outcome(self, task):
        words = task.command
        options = dict(zip(words[4::2], words[5::2]))
        head = re.search(r"type='(RetinaNet|GFL)'", (task.folder / 'config.py').read_text())[1]
        size = re.search(r'scale=\(\s*(\d+)', (task.folder / 'config.py').read_text())[1]
        arch = f'{"GFLHead" if head == "GFL" else "RetinaHead"}@{size}'
        self.ran.append((arch, options.get('--until')))
        self.tasks.append(task)
        if self.lost.get(arch, 0) > 0:
            self.lost[arch] -= 1
            return Outcome(None, 'killed by signal 9 (SIGKILL)', 'worker 0', memory=2**30)
        if '--trial' in options:
            write_result(
                task.folder, task.key, dict(status='ok', iteration=36.0, iterations=100, seconds=dict(startup=0))
            )
        elif arch in self.failing:
            own = self.failing[arch]
            write_result(
                task.folder, task.key, dict(status='failed') | (own if isinstance(own, dict) else dict(reason=own))
            )
        else:
            self._train(task, arch, options.get('--until'))
        return Outcome(read_result(task.folder, task.key), None, 'worker 1')

    def _train(self, task, arch, until):
        file = task.folder / 'result.json'
        before = json.loads(file.read_text()) if file.is_file() else {}
        rungs = before.get('rungs', {}) if work_of(before.get('key', '')) == work_of(task.key) else {}
        score = -self.scores[arch] if self.turning and until else self.scores[arch]
        metrics = {'coco/bbox_mAP': score, 'of/training': 1.0}
        (task.folder / 'training').mkdir(exist_ok=True)
        if not until:
            shutil.rmtree(task.folder / 'training')
            torch.save(dict(state_dict=dict(score=torch.tensor(score))), task.folder / 'weights.pth')
        at = until or str(ITERATIONS)
        result = dict(status='ok', metrics=metrics, iterations=int(at), rungs=rungs | {at: metrics})
        if '--inherit' in task.command:
            result['inherited'] = [3, 5]
        write_result(task.folder, task.key, result | dict(seconds=dict(training=36.0)))


def rows(folder):
    kept = [row.to_json() for row in read_ledger(folder / 'ledger.jsonl')[1]]
    return [{key: value for key, value in row.items() if key not in VOLATILE} for row in kept]


def files(folder, name):
    return sorted(path.parent.name for path in (folder / CANDIDATES).glob(f'*/{name}'))
