"""Rankers inside the prefilter: entropy of structures, and a guess about the paths of a supernet."""

import re

import numpy as np
import pytest

from detnas_mm.search import Constraint, Evaluation, Evaluator, EvolutionStrategy, Objective, ParetoStrategy, Ranker
from detnas_mm.systems.detnas import DetNASSpace, MacsTable
from detnas_mm.systems.mae_det import EntropyScore, MAEDetSpace, StructureFlops
from tests.jobs import make_job, run_in_memory


def prefiltered(space, ranker, evaluator, objective, cost, strategy=EvolutionStrategy):
    chosen = strategy(
        population=16, parents=6, mutation_prob=1.0, prefilter=dict(ranker=ranker, oversample=4, min_correlation=0.3)
    )  # fmt: skip
    lines = []
    job = make_job(
        space, [objective], dict(cost=cost), [Constraint('cost', high=float(np.mean(cost.bounds())))],
        strategy=chosen, evaluator=evaluator, generations=4, log=lines.append,
    )  # fmt: skip
    return job, lines


class MoreXceptions(Ranker):
    """Finds paths with many Xception blocks promising."""

    def spec(self):
        return dict(type='MoreXceptions')

    def scores(self, archs):
        return np.array([arch.genes.count(3) for arch in archs], dtype=float)


class Xceptions(Evaluator):
    """Fitness is the number of Xception blocks, or the reverse of it."""

    def __init__(self, sign):
        self.sign = sign

    def setup(self, job, model=None):
        pass

    def spec(self):
        return dict(type='Xceptions', sign=self.sign)

    def evaluate(self, archs):
        for arch in archs:
            yield Evaluation({'acc': float(self.sign * arch.genes.count(3))})


@pytest.mark.parametrize('sign', [1, -1])
def test_paths_in_the_prefilter_of_detnas(sign):
    """A ranker that correlates with the fitness is used, one that does not is switched off."""
    space = DetNASSpace('small')
    job, lines = prefiltered(space, MoreXceptions(), Xceptions(sign), Objective('acc'), MacsTable(space))
    run_in_memory(job)
    found = float(re.search(r'MoreXceptions ranked them with a correlation of (-?[\d.]+)', lines[0])[1])
    assert sign * found > 0.5 and ('not filtered' in lines[0]) == (sign < 0)
    assert job.strategy.spec()['prefilter']['ranker'] == dict(type='MoreXceptions')


def test_structures_in_the_prefilter():
    """A ranker that says exactly what the evaluator will: from the second generation on it filters."""
    space = MAEDetSpace()
    job, lines = prefiltered(
        space, dict(type='EntropyScore'), EntropyScore(), Objective('entropy'), StructureFlops(space)
    )
    run_in_memory(job)
    assert all('EntropyScore ranked them with a correlation of 1.00' in line for line in lines)


def test_structures_against_several_objectives():
    space = MAEDetSpace()
    strategy = ParetoStrategy(population=20, parents=8, mutation_prob=1.0)
    objectives = [Objective('entropy'), Objective('flops', 'minimize')]
    lines = []
    run_in_memory(
        make_job(
            space, objectives, dict(flops=StructureFlops(space)), strategy=strategy, evaluator=EntropyScore(),
            generations=3, log=lines.append,
        )
    )  # fmt: skip
    assert 'nets on the front' in lines[-1]
