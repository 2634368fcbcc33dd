"""Sections that cannot be parsed are refused in one sentence."""

import pytest

from detnas_mm.errors import DetNASError
from detnas_mm.search import SearchJob
from detnas_mm.testing import ToyCost, ToySpace

SECTION = dict(space=dict(type=ToySpace), objectives=[dict(name='score')], costs=dict(toy=dict(type=ToyCost)))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(space=None), 'search.space is None; give its settings'),
        (dict(costs=dict(toy=None)), 'search.costs.toy is None; give its settings'),
        (dict(costs=[1]), 'search.costs must be a dict by name'),
        (dict(objectives=[]), 'search.objectives is empty'),
        (dict(export=dict(retrain={})), 'search.export must be a dict such as'),
        (dict(budget=dict(generations=0)), 'search.budget.generations must be a whole number of at least 1'),
        (dict(stategy=dict(type='RandomStrategy')), r"search: unknown key 'stategy'\. Keys: space"),
    ],
)
def test_a_section_that_does_not_fit(changes, message):
    with pytest.raises(DetNASError, match=message):
        SearchJob.from_config(dict(search=SECTION | changes))


def test_strategy_and_evaluator_are_optional():
    job = SearchJob.from_config(dict(search=SECTION))
    assert job.strategy is None and job.evaluator is None and job.needs_model and job.work_dir is None
