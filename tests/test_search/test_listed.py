"""Architectures that are named by hand, evaluated as those of a search."""

import pytest

from detnas_mm.registry import STRATEGIES, build_from
from detnas_mm.search import Constraint, ListStrategy, Objective
from detnas_mm.systems.detnas import DetNASSpace, MacsTable
from tests.jobs import make_job

TINY = DetNASSpace(dict(stem=4, channels=(8, 16), blocks=(1, 2)))
NETS = ['1|23', '0|00', '3|33']


def prepared(archs, generations=1, **bounds):
    strategy = build_from(STRATEGIES, dict(type='ListStrategy', archs=archs))
    constraints = [Constraint('macs', **bounds)] if bounds else []
    costs = {'macs': MacsTable(TINY)}
    job = make_job(TINY, [Objective('acc')], costs, constraints, strategy=strategy)
    job.generations = generations
    job.prepare()
    return strategy


def test_asks_for_what_is_listed_in_that_order():
    strategy = prepared(NETS)
    proposals = strategy.ask(0)
    assert [TINY.describe(proposal.arch) for proposal in proposals] == NETS
    assert {proposal.origin for proposal in proposals} == {'listed'}
    assert strategy.spec() == dict(type='ListStrategy', archs=NETS)


@pytest.mark.parametrize(
    ('archs', 'said'),
    [
        ([], 'archs is empty'),
        ('1|23', 'must be a list'),
        (['1|23', '9|99'], '9'),
        (['1|23', '0|00', '1|23'], r'archs has 1\|23 twice'),
    ],
)
def test_lists_that_cannot_be_are_refused(archs, said):
    with pytest.raises(ValueError, match=said):
        prepared(archs)


def test_a_net_that_breaks_a_constraint_is_named():
    table = MacsTable(TINY)
    limit = table.total('0|00')
    assert limit < table.total('3|33')
    with pytest.raises(ValueError, match=r'3\|33 breaks macs'):
        prepared(['0|00', '3|33'], high=limit)


def test_it_has_one_generation():
    with pytest.raises(ValueError, match='generations is 3. Set it to 1'):
        prepared(NETS, generations=3)
    assert ListStrategy(NETS).max_attempts == 3
