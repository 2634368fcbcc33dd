"""The exported config whose test reproduces the fitness of a candidate."""

import copy

import pytest

from detnas_mm.evaluators import OneShotEvaluator
from detnas_mm.testing import ToyEvaluator

LOADER = dict(batch_size=2, num_workers=0, dataset=dict(type='CocoDataset', ann_file='search_val.json'))
METRIC = dict(type='CocoMetric', ann_file='search_val.json')
CFG = dict(
    model=dict(type='RetinaNet'),
    train_dataloader=dict(batch_size=16),
    test_dataloader=dict(batch_size=1, dataset=dict(ann_file='test.json')),
    test_evaluator=dict(type='CocoMetric', ann_file='test.json'),
    custom_hooks=[dict(type='Own')],
)


def test_its_test_is_search_val_by_the_metric_of_the_search():
    before = copy.deepcopy(CFG)
    found = OneShotEvaluator(LOADER, METRIC, None).rescoring(CFG)
    assert before == CFG
    for kind, loop in (('val', 'ValLoop'), ('test', 'TestLoop')):
        assert found[f'{kind}_dataloader'] == LOADER | dict(sampler=dict(type='DefaultSampler', shuffle=False))
        assert found[f'{kind}_evaluator'] == METRIC and found[f'{kind}_cfg'] == dict(type=loop)
    assert all(found[key] == CFG[key] for key in ('model', 'train_dataloader', 'custom_hooks'))


def test_a_sampler_of_the_searchs_own_stays():
    own = LOADER | dict(sampler=dict(type='DefaultSampler', shuffle=False, round_up=False))
    assert OneShotEvaluator(own, METRIC, None).rescoring({})['test_dataloader'] == own


@pytest.mark.parametrize('hooks', [dict(), dict(custom_hooks=None), dict(custom_hooks=[dict(type='Own')])], ids=str)
def test_it_is_run_in_the_layout_of_the_search(hooks):
    found = OneShotEvaluator(LOADER, METRIC, None, channels_last=True).rescoring(hooks)
    own = hooks.get('custom_hooks') or []
    assert found['custom_hooks'] == [*own, dict(type='detnas_mm.ChannelsLastHook', evaluation=True)]


def test_an_evaluator_without_a_model_has_no_such_config():
    assert ToyEvaluator().rescoring(CFG) is None and ToyEvaluator().weights(None) is None
