"""Offspring ranked before they are evaluated: what it saves, and when it switches itself off."""

import dataclasses
import math

import numpy as np
import pytest

from detnas_mm.registry import RANKERS
from detnas_mm.search import (
    EvolutionStrategy,
    Objective,
    ParetoStrategy,
    Prefilter,
    Proposal,
    Ranker,
    Record,
    SurrogateRanker,
)
from detnas_mm.systems.detnas import DetNASSpace
from detnas_mm.testing import check_strategy
from tests.jobs import make_job

from .conftest import CountingEvaluator

SURROGATE = dict(ranker=dict(type='SurrogateRanker', trees=30), oversample=4)


@RANKERS.register_module(force=True)
class KnowingRanker(Ranker):
    """Knows what CountingEvaluator will say, times ``sign``."""

    def __init__(self, sign=1):
        self.sign = sign

    def spec(self):
        return dict(type='KnowingRanker', sign=self.sign)

    def scores(self, archs):
        return np.array([self.sign * (arch.genes.count(2) + 0.1 * arch.genes.count(3)) for arch in archs])


def evolution(**prefilter):
    return EvolutionStrategy(population=10, parents=4, prefilter=prefilter or None)


def test_the_strategy_keeps_the_contract():
    prefilter = dict(ranker=dict(type='SurrogateRanker', trees=5), oversample=4, min_correlation=-1)
    check_strategy(lambda: EvolutionStrategy(population=8, parents=3, max_attempts=1000, prefilter=prefilter))


@pytest.mark.parametrize(
    'prefilter', [dict(ranker=dict(type='KnowingRanker')), SURROGATE], ids=['knowing', 'surrogate']
)
def test_filtered_offspring_are_better(make_search, prefilter):
    means = {}
    for name, settings in (('with', prefilter), ('without', {})):
        found = []
        for seed in range(3):
            search = make_search(strategy=evolution(**settings), generations=6, seed=seed, folder=f'{name}{seed}')
            search.run()
            found += [r.metrics['acc'] for r in search.ledger.records if r.generation >= 3]
        means[name] = np.mean(found)
    assert means['with'] > means['without'] + 0.2


def test_it_proves_itself_before_it_filters_and_says_how_well_it_ranks(make_search):
    lines = []
    strategy = evolution(ranker=dict(type='KnowingRanker'))
    search = make_search(strategy=strategy, generations=2, log=lines.append)
    search.run()
    plain = make_search(strategy=evolution(), generations=2, folder='b')
    plain.run()
    # Nothing is known of the ranker in the first generation, so that it is drawn as without one; then it is.
    assert [r.id for r in search.ledger.records[:10]] == [r.id for r in plain.ledger.records[:10]]
    assert [r.id for r in search.ledger.records] != [r.id for r in plain.ledger.records]
    assert strategy.prefilter.correlation == pytest.approx(1)
    assert sum('KnowingRanker ranked them with a correlation of 1.00' in line for line in lines) == 2


@pytest.mark.parametrize('sign', [-1, 0])
def test_a_ranker_that_is_wrong_switches_itself_off(make_search, sign):
    lines = []
    strategy = evolution(ranker=dict(type='KnowingRanker', sign=sign), min_correlation=0.3)
    search = make_search(strategy=strategy, log=lines.append)
    search.run()
    plain = make_search(strategy=evolution(), folder='b')
    plain.run()
    assert [r.id for r in search.ledger.records] == [r.id for r in plain.ledger.records]
    remark = 'correlation of -1.00, which is too little: not filtered' if sign else 'has nothing to show yet'
    assert sum(remark in line for line in lines) == 4


def test_a_handful_teaches_nothing_and_changes_nothing():
    """Racing may leave few full evaluations; the estimate of the ranker's quality is then kept."""
    space = DetNASSpace(dict(stem=4, channels=(8,), blocks=(3,)))
    prefilter = Prefilter(dict(type='KnowingRanker'))
    prefilter.setup(make_job(space, [Objective('acc')]))
    archs = space.sample_many(np.random.default_rng(0), 12)
    proposals = [Proposal(arch, 'random') for arch in archs]
    given = [
        Record(i, 0, arch.id, space.describe(arch), 'random', (), 'ok', None, dict(acc=acc), {})
        for i, (arch, acc) in enumerate(zip(archs, prefilter.ranker.scores(archs).tolist(), strict=True))
    ]
    prefilter.predict(proposals)
    prefilter.tell(given[:8])
    assert prefilter.correlation == pytest.approx(1)
    worst_first = [dataclasses.replace(r, metrics=dict(acc=-r.metrics['acc'])) for r in given]
    prefilter.tell(worst_first[:4])
    assert prefilter.correlation == pytest.approx(1) and 'correlation of 1.00' in str(prefilter)
    prefilter.tell(worst_first[:5])
    assert prefilter.correlation == pytest.approx(-1)


@pytest.mark.parametrize('stop_after', [5, 17, 35])
def test_a_search_resumes_as_if_never_stopped(make_search, stop_after):
    whole = make_search(strategy=evolution(**SURROGATE))
    whole.run()
    cut = make_search(CountingEvaluator(stop_after=stop_after), evolution(**SURROGATE), folder='b')
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    cut.ledger.close()
    again = make_search(strategy=evolution(**SURROGATE), folder='b')
    again.run()
    assert again.rows() == whole.rows()


def test_what_was_left_out_may_come_again(make_search):
    strategy = evolution(ranker=dict(type='KnowingRanker'))
    search = make_search(strategy=strategy)
    search.run()
    assert strategy._seen == {r.id for r in search.ledger.records}


def test_bad_settings():
    for number in (1, 2.5):
        with pytest.raises(ValueError, match='prefilter.oversample must be a whole number of at least 2'):
            Prefilter(dict(type='SurrogateRanker'), oversample=number)
    with pytest.raises(ValueError, match='min_correlation must lie in'):
        Prefilter(dict(type='SurrogateRanker'), min_correlation=1.0)
    with pytest.raises(ValueError, match="Unknown ranker 'Oracle'. Registered:.*SurrogateRanker"):
        Prefilter(dict(type='Oracle'))
    with pytest.raises(ValueError, match="Prefilter has no argument 'oversampling'; it takes ranker, oversample"):
        evolution(ranker=dict(type='SurrogateRanker'), oversampling=4)
    with pytest.raises(ValueError, match='prefilter.min_correlation must be a number'):
        Prefilter(dict(type='SurrogateRanker'), min_correlation='0.3')
    for number in (0, 1.5):
        with pytest.raises(ValueError, match=f'ranker.trees must be a whole number of at least 1; got {number}'):
            SurrogateRanker(trees=number)
    with pytest.raises(ValueError, match='The settings of Prefilter must be a dict, .*; got True'):
        EvolutionStrategy(prefilter=True)
    with pytest.raises(ValueError, match="The settings of a ranker must be a dict, .*; got 'SurrogateRanker'"):
        Prefilter('SurrogateRanker')
    both = [Objective('acc'), Objective('macs', 'minimize')]
    with pytest.raises(ValueError, match="one objective; got \\['acc', 'macs'\\]"):
        ParetoStrategy(prefilter=SURROGATE).setup(make_job(DetNASSpace('small'), both))


def test_too_few_rows_teach_nothing():
    ranker = SurrogateRanker(at_least=5)
    ranker.setup(make_job(DetNASSpace('small'), [Objective('acc')]))
    ranker.fit([])
    assert ranker.scores([]) is None
    prefilter = Prefilter(ranker)
    prefilter.setup(make_job(DetNASSpace('small'), [Objective('acc')]))
    prefilter.tell([])
    assert math.isnan(prefilter.correlation) and not prefilter.active
