"""Rankers inside the prefilter: entropy of structures, and a guess about the paths of a supernet."""

import re

import numpy as np
import pytest

from detnas_mm.search import (
    Budget,
    Constraint,
    Evaluation,
    EvolutionStrategy,
    Ledger,
    Objective,
    ParetoStrategy,
    Ranker,
    Searcher,
)
from detnas_mm.systems.detnas import DetNASSpace, MacsTable
from detnas_mm.systems.mae_det import EntropyScore, MAEDetSpace, StructureFlops
from tests.test_search.conftest import CountingEvaluator


def prefiltered(space, ranker, evaluator, objective, cost, strategy=EvolutionStrategy):
    budget = Budget(space, dict(cost=cost), [Constraint('cost', high=float(np.mean(cost.bounds())))])
    chosen = strategy(
        population=16, parents=6, mutation_prob=1.0, prefilter=dict(ranker=ranker, oversample=4, min_correlation=0.3)
    )  # fmt: skip
    lines = []
    return Searcher(space, chosen, evaluator, [objective], budget, Ledger(None, {}), 4, 0, lines.append, False), lines


class MoreXceptions(Ranker):
    """Finds paths with many Xception blocks promising."""

    def spec(self):
        return dict(type='MoreXceptions')

    def scores(self, archs):
        return np.array([arch.genes.count(3) for arch in archs], dtype=float)


class Xceptions(CountingEvaluator):
    """Fitness is the number of Xception blocks, or the reverse of it."""

    def __init__(self, sign):
        super().__init__()
        self.sign = sign

    def _one_by_one(self, archs):
        for arch in archs:
            yield Evaluation({'acc': float(self.sign * arch.genes.count(3))})


@pytest.mark.parametrize('sign', [1, -1])
def test_paths_in_the_prefilter_of_detnas(sign):
    """A ranker that says something is used, one that does not is switched off."""
    space = DetNASSpace('small')
    job, lines = prefiltered(space, MoreXceptions(), Xceptions(sign), Objective('acc'), MacsTable(space))
    job.run()
    found = float(re.search(r'MoreXceptions ranked them with a correlation of (-?[\d.]+)', lines[0])[1])
    assert sign * found > 0.5 and ('not filtered' in lines[0]) == (sign < 0)
    assert job.strategy.spec()['prefilter']['ranker'] == dict(type='MoreXceptions')


def test_structures_in_the_prefilter():
    """A ranker that says exactly what the evaluator will: from the second generation on it filters."""
    space = MAEDetSpace()
    job, lines = prefiltered(
        space, dict(type='EntropyScore'), EntropyScore(), Objective('entropy'), StructureFlops(space)
    )
    job.run()
    assert all('EntropyScore ranked them with a correlation of 1.00' in line for line in lines)


def test_structures_against_several_objectives():
    space = MAEDetSpace()
    budget = Budget(space, dict(flops=StructureFlops(space)))
    strategy = ParetoStrategy(population=20, parents=8, mutation_prob=1.0)
    objectives = [Objective('entropy'), Objective('flops', 'minimize')]
    lines = []
    Searcher(space, strategy, EntropyScore(), objectives, budget, Ledger(None, {}), 3, 0, lines.append, False).run()
    assert 'nets on the front' in lines[-1]
