"""Errors of the evolution of MAE-DET before it draws anything."""

import pytest

from detnas_mm.search import Constraint, Evaluator, Objective, PopulationEvolution, UnmeetableConstraint
from detnas_mm.systems.detnas import DetNASSpace
from detnas_mm.systems.mae_det import EntropyScore, StructureFlops

from .test_population import SPACE, budget, entropy_job, set_up


@pytest.mark.parametrize(
    ('kwargs', 'match'),
    [
        (dict(population=0), 'population must be a whole number of at least 1; got 0'),
        (dict(candidates=1.5), 'candidates must be'),
        (dict(batch=True), 'batch must be'),
        (dict(mutation_prob=0), r'mutation_prob must lie in \(0, 1\]; got 0'),
        (dict(start='maedet-init'), 'start must be a list'),
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


class Unscoring(Evaluator):
    """Scores candidates one by one."""

    def setup(self, job, model=None):
        pass

    def spec(self):
        return {}

    def evaluate(self, archs):
        return iter(())


def test_what_does_not_fit_together_is_refused_before_the_search():
    with pytest.raises(ValueError, match=r"strategy.phases has kinds=\['stride'\]; allowed are \['out'"):
        set_up(PopulationEvolution(phases=[dict(kinds=['stride'])]))
    with pytest.raises(ValueError, match='it has 4 blocks after the stem'):
        set_up(PopulationEvolution(start=['maedet-s']))
    with pytest.raises(ValueError, match="'mAP' is not a metric of the evaluator, which gives \\['entropy'\\]"):
        set_up(PopulationEvolution(), objectives=[Objective('mAP')])
    with pytest.raises(ValueError, match='needs an ArrayEvaluator, which scores arrays; got Unscoring'):
        set_up(PopulationEvolution(), evaluator=Unscoring())
    with pytest.raises(ValueError, match='needs an ArrayEvaluator, which scores arrays; got NoneType'):
        set_up(PopulationEvolution(), evaluator=None)
    with pytest.raises(ValueError, match='generations must be a whole number of at least 1; got 0'):
        entropy_job(generations=0)
    with pytest.raises(ValueError, match='got DetNASSpace. Use EvolutionStrategy'):
        PopulationEvolution().setup(entropy_job(space=DetNASSpace('small'), constraints=()))
    with pytest.raises(ValueError, match="one objective; got \\['entropy', 'flops'\\]"):
        set_up(PopulationEvolution(), objectives=[Objective('entropy'), Objective('flops')])
    with pytest.raises(
        ValueError, match=r'32k3s2.* breaks a constraint. It has .*flops 7,745,241,600.*search.strategy.start=\[\]'
    ):
        set_up(PopulationEvolution(start=['maedet-init']), constraints=[Constraint('flops', high=5e9)])


def test_constraints_that_nothing_meets_end_the_search():
    smallest = StructureFlops(SPACE).bounds()[0]
    strategy = PopulationEvolution(max_attempts=2000)
    set_up(strategy, constraints=[Constraint('flops', low=smallest + 0.25, high=smallest + 0.75)])
    with pytest.raises(UnmeetableConstraint, match='acceptance rate 0'):
        strategy.advance(0, None, EntropyScore().score_codes)


def test_tight_limits_that_something_meets_are_searched_within():
    """Hardly any draw meets them; the smallest structure does, and the search proceeds from there."""
    limits = [Constraint('flops', high=1.1 * StructureFlops(SPACE).bounds()[0]), Constraint('layers', high=19)]
    strategy = PopulationEvolution(population=16, candidates=500, max_attempts=2000)
    set_up(strategy, constraints=limits)
    population = strategy.advance(0, None, EntropyScore().score_codes)
    smallest = EntropyScore().score(SPACE.smallest())
    assert budget(limits).allows_codes(population.codes).all() and population.gains[0] > smallest
