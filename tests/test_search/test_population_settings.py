"""What the evolution of MAE-DET refuses, before it draws anything."""

import pytest

from detnas_mm.search import Constraint, Objective, PopulationEvolution, UnmeetableConstraint
from detnas_mm.systems.detnas import DetNASSpace
from detnas_mm.systems.mae_det import EntropyScore, StructureFlops

from .test_population import SPACE, budget, search


@pytest.mark.parametrize(
    ('kwargs', 'match'),
    [
        (dict(population=0), 'population must be an integer of at least 1; got 0'),
        (dict(candidates=1.5), 'candidates must be'),
        (dict(batch=True), 'batch must be'),
        (dict(mutation_prob=0), r'mutation_prob must lie in \(0, 1\]; got 0'),
        (dict(start='maedet-init'), 'start is a list'),
        (dict(phases=[]), 'phases is empty'),
        (dict(phases=[dict(kinds=['out'])] * 2), 'Phase 0 .* the last one without'),
        (dict(phases=[dict(kinds=['out'], generations=2)]), 'Phase 0'),
        (dict(phases=[dict(kinds='out')]), 'Phase 0'),
        (dict(phases=[dict(genes=['out'])]), 'Phase 0'),
    ],
)
def test_settings_that_make_no_sense_are_refused(kwargs, match):
    with pytest.raises(ValueError, match=match):
        PopulationEvolution(**kwargs)


def test_what_does_not_fit_together_is_refused_before_the_search():
    with pytest.raises(ValueError, match=r"A phase lets \['stride'\] change; this space has \['out'"):
        search(strategy=PopulationEvolution(phases=[dict(kinds=['stride'])]))
    with pytest.raises(ValueError, match='it has 4 blocks after the stem'):
        search(strategy=PopulationEvolution(start=['maedet-s']))
    with pytest.raises(ValueError, match="'mAP' is no metric of the evaluator, which gives \\['entropy'\\]"):
        search(objective=Objective('mAP'))
    with pytest.raises(ValueError, match='wants an evaluator that scores arrays'):
        search(evaluator=object())
    with pytest.raises(ValueError, match='generations must be at least 1'):
        search(generations=0)
    strategy = PopulationEvolution()
    with pytest.raises(ValueError, match='DetNASSpace is none'):
        strategy.setup(DetNASSpace('small'), None, [Objective('entropy')], 0)
    with pytest.raises(ValueError, match='one objective'):
        strategy.setup(SPACE, budget(), [Objective('entropy'), Objective('flops')], 0)
    with pytest.raises(ValueError, match=r'cannot begin with 32k3s2.* flops 7,745,241,600.*search.strategy.start=\[\]'):
        PopulationEvolution(start=['maedet-init']).setup(
            SPACE, budget([Constraint('flops', high=5e9)]), [Objective('entropy')], 0
        )


def test_constraints_that_nothing_meets_end_the_search():
    smallest = StructureFlops(SPACE).bounds()[0]
    strategy = PopulationEvolution(max_attempts=2000)
    strategy.setup(
        SPACE, budget([Constraint('flops', low=smallest + 0.25, high=smallest + 0.75)]), [Objective('entropy')], 0
    )
    with pytest.raises(UnmeetableConstraint, match='acceptance rate 0'):
        strategy.advance(0, None, EntropyScore().score_codes)


def test_tight_limits_that_something_meets_are_searched_within():
    """Hardly any draw meets them; the smallest structure does, and the search goes on from there."""
    limits = [Constraint('flops', high=1.1 * StructureFlops(SPACE).bounds()[0]), Constraint('layers', high=19)]
    strategy = PopulationEvolution(population=16, candidates=500, max_attempts=2000)
    strategy.setup(SPACE, budget(limits), [Objective('entropy')], 0)
    population = strategy.advance(0, None, EntropyScore().score_codes)
    smallest = EntropyScore().score(SPACE.smallest())
    assert budget(limits).allows_codes(population.codes).all() and population.gains[0] > smallest
