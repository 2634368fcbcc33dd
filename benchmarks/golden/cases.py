"""The compared searches: subject, config, way of starting, and checks that a result exercises the subject.

Configs inherit those of the tree that they run in, so shipped configs are compared, too. ``$CONFIGS`` is the tree's
folder of configs, ``$INPUTS`` that of the inputs of :mod:`golden.inputs`; for ``$EXPORT`` see
:func:`golden.run.run_case`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from golden.inputs import STRUCTURES

Result = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One search. Its repr identifies how it runs.

    Attributes:
        about: Its subject, in one line.
        config: Text of its config; empty for the shipped one of Digits, changed only by ``--cfg-options``.
        small: Text of ``small.py`` beside it, which the config may inherit.
        start: How it is started, see :mod:`golden.run`.
        supernet: Name of the trained supernet on the command line, if any.
        needs: Names of other inputs, see :mod:`golden.inputs`.
        shows: Returns why a result of BASE does not exercise the subject; None if it does.
    """

    about: str = field(repr=False)
    config: str
    shows: Callable[[Result], str | None] = field(repr=False)
    small: str = ''
    start: str = 'search'
    supernet: str | None = None
    needs: tuple[str, ...] = ()

    @property
    def all_needs(self) -> tuple[str, ...]:
        """Names of all inputs, including the supernet."""
        return self.needs if self.supernet is None else (*self.needs, self.supernet)


# -- checks that a result exercises the subject ---------------------------------------------------------------------


def _rows(result: Result) -> list[dict[str, Any]]:
    return [row for row in result['ledger'] if 'population' not in row]


def differing_scores(metric: str, count: int = 4) -> Callable[[Result], str | None]:
    """Checks that candidates differ in a metric: without any detections, rows are equal with any code."""

    def shows(result: Result) -> str | None:
        found = {row['metrics'].get(metric) for row in _rows(result) if row['status'] == 'ok'}
        return None if len(found) >= count else f'only {len(found)} different values of {metric}'

    return shows


def _by_latency(result: Result) -> str | None:
    latencies = {row['costs'].get('latency') for row in _rows(result)}
    return None if len(latencies) >= 4 else f'only {len(latencies)} different latencies'


def _detected_by_latency(result: Result) -> str | None:
    return differing_scores('coco/bbox_mAP')(result) or _by_latency(result)


def _measured(result: Result) -> str | None:
    tested = [net.get('tested') for net in result['measured'] or ()]
    return _detected_by_latency(result) or (None if tested and all(tested) else 'nets were not tested')


def _raced(result: Result) -> str | None:
    rows = _rows(result)
    if not any(row['status'] == 'dropped' for row in rows):
        return 'racing dropped nobody'
    learnt = sum(row['status'] == 'ok' and row['generation'] == 1 for row in rows)
    return None if learnt >= 5 else f'{learnt} rows of generation 1: too few for the prefilter to prove itself'


def _proven(result: Result) -> str | None:
    return None if result['certificate'] and result['best'] else 'nothing was proven'


def _structures_by_latency(result: Result) -> str | None:
    return _by_latency(result) or (None if result['measured'] else 'what was found was not measured')


# -- configs --------------------------------------------------------------------------------------------------------

_DETECTION = "type='CocoMetric', ann_file='$INPUTS/digits/annotations/instances_search_val.json', metric='bbox'"
_SMALL = """
_base_ = '$CONFIGS/digits/detnas-digits_search_{name}.py'
{model}
search = dict(
    strategy=dict(population=6, parents=3, mutation=3, crossover=3),
    evaluator=dict(metric=dict(_delete_=True, {metric}), calibration=dict(num_images=60)),
    budget=dict(generations=2),
    export=dict(top_k=2),
)
"""
_SCORES = 'model = dict(test_cfg=dict(score_thr=0.001))'
RETINANET = _SMALL.format(name='retinanet', metric=_DETECTION, model=_SCORES)
FPN = _SMALL.format(name='fpn', metric=_DETECTION, model='model = dict(test_cfg=dict(rcnn=dict(score_thr=0.001)))')
CLASSIFIER = _SMALL.format(name='cls', metric="type='Accuracy', topk=(1,)", model='')

#: The same as ``RETINANET``, by the command line.
OPTIONS = [
    'search.strategy.population=6', 'search.strategy.parents=3', 'search.strategy.mutation=3',
    'search.strategy.crossover=3', 'search.evaluator.metric.type=CocoMetric', 'search.budget.generations=2',
    'search.evaluator.calibration.num_images=60', 'search.export.top_k=2', 'model.test_cfg.score_thr=0.001',
]  # fmt: skip

_INHERIT = "_base_ = './small.py'\n"
_LATENCY = """
search = dict(
    strategy=dict(_delete_=True, type='ParetoStrategy', population=8, parents=4),
    objectives=[
        dict(name='coco/bbox_mAP', direction='maximize'),
        dict(name='latency', direction='minimize'),
    ],
    costs=dict(
        latency=dict(
            type='LatencyTable', file='$INPUTS/paths/table.json', part='detector', input_size=(96, 96)
        ),
    ),
    constraints=[],
)
"""
_RACING = """
search = dict(
    strategy=dict(
        population=8, parents=4, mutation=4, crossover=4,
        prefilter=dict(ranker=dict(type='SurrogateRanker', trees=20, at_least=5), oversample=4, min_correlation=-1),
    ),
    evaluator=dict(
        dataloader=dict(batch_size=10),
        # Raced from the third generation on, so that the surrogate has a second one to prove itself on.
        racing=dict(shares=[0.5], confidence=0.6, keep=3, at_least=12, calibration=0.5),
    ),
    budget=dict(generations=4),
)
"""
_AFTER_TRAINING = """
load_from = '$INPUTS/retinanet/iter_260.pth'
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=10)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
default_hooks = dict(checkpoint=dict(_delete_=True, type='CheckpointHook', by_epoch=False, interval=10))
custom_hooks = [
    dict(type='detnas_mm.PathSamplingHook', seed=7),
    dict(type='detnas_mm.ChannelsLastHook'),
    dict(type='EMAHook', momentum=0.005),
    dict(type='detnas_mm.EvolutionSearchHook'),
]
"""
_OWN = """
_base_ = 'detnas_mm::digits/detnas-digits_search_retinanet.py'
classes = dict(classes=('low', 'middle', 'high'))
model = dict(bbox_head=dict(num_classes=3), test_cfg=dict(score_thr=0.001))
own_train = dict(metainfo=classes, ann_file='$INPUTS/own/instances_train.json')
train_dataloader = dict(dataset=own_train)
search = dict(
    strategy=dict(population=6, parents=3, mutation=3, crossover=3),
    evaluator=dict(
        dataloader=dict(dataset=dict(metainfo=classes, ann_file='$INPUTS/own/instances_search_val.json')),
        metric=dict(
            _delete_=True, type='CocoMetric', ann_file='$INPUTS/own/instances_search_val.json', metric='bbox'
        ),
        calibration=dict(num_images=60, dataloader=dict(dataset=own_train)),
    ),
    budget=dict(generations=2),
    export=dict($EXPORT top_k=2),
)
"""
_STRUCTURES_FRONT = (
    STRUCTURES
    + """
search['strategy'] = dict(_delete_=True, type='ParetoStrategy', population=20, parents=10, mutation_prob=1.0)
search['objectives'] = [dict(name='entropy'), dict(name='latency', direction='minimize')]
search['budget'] = dict(generations=4)
search['export'] = dict(front_k=3)
"""
)
_AUTHORS = """
_base_ = '$CONFIGS/mae_det/maedet_search_gfl_coco.py'
search = dict(strategy=dict(population=64, candidates=2000), budget=dict(generations=3), export=dict(top_k=2))
"""
_EXACT = "_base_ = '$CONFIGS/mae_det/maedet_search-exact_gfl_coco.py'\n"

_MAP, _TOP1 = differing_scores('coco/bbox_mAP'), differing_scores('accuracy/top1')


def _detection(about: str, config: str, shows: Any = _MAP, **more: Any) -> Case:
    """Builds the case of a search in the RetinaNet supernet."""
    given = dict(small=RETINANET, supernet='retinanet', needs=('digits',)) | more
    return Case(about, config, shows, **given)


CASES = {
    'evolution': _detection('the shipped config of Digits, changed by --cfg-options alone', '', small=''),
    'random': _detection(
        'random search',
        _INHERIT + "search = dict(strategy=dict(_delete_=True, type='RandomStrategy', population=6))\n",
    ),
    'pareto-latency': _detection(
        'front of mAP against latency, from a measured table', _INHERIT + _LATENCY, _detected_by_latency,
        needs=('digits', 'paths'),
    ),
    'measure': _detection(
        'the same front, its exported nets measured and tested: tools/front.py, or tools/search.py --measure',
        _INHERIT + _LATENCY, _measured, start='measure', needs=('digits', 'paths'),
    ),
    'racing': _detection('racing, with the surrogate as prefilter', _INHERIT + _RACING, _raced),
    'fpn': _detection('Faster R-CNN with BN in neck and head', _INHERIT, small=FPN, supernet='fpn'),
    'classification': _detection('ClsNAS', _INHERIT, _TOP1, small=CLASSIFIER, supernet='cls'),
    'after-training': _detection(
        'the hook right after a training with averaged weights: tools/train.py', _INHERIT + _AFTER_TRAINING,
        start='train', supernet=None, needs=('digits', 'retinanet'),
    ),
    'mmdet-train': _detection(
        "the hook under mmdet's own train script", _INHERIT + "load_from = '$INPUTS/retinanet/iter_260.pth'\n",
        start='mmdet', supernet=None, needs=('digits', 'retinanet'),
    ),
    'two-processes': _detection('two gloo processes: tools/dist_search.sh', _INHERIT, start='ranks'),
    'killed': _detection(
        'killed by SIGKILL after three rows, and started again',
        _INHERIT + 'search = dict(evaluator=dict(chunk_size=2))\n', start='killed',
    ),
    'elsewhere': _detection(
        'a config in another folder that inherits detnas_mm::… with classes of its own', _OWN, small='',
        supernet='own',
    ),
    'maedet-evolution': Case("MAE-DET's evolution, with a proof", _AUTHORS, _proven),
    'maedet-exact': Case('MAE-DET, exact', _EXACT, _proven),
    'maedet-latency': Case(
        'MAE-DET, front of entropy against latency, from measured tables; what is found is measured', _STRUCTURES_FRONT,
        _structures_by_latency, needs=('structures',),
    ),
}  # fmt: skip
