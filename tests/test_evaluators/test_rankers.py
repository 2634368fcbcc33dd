"""Entropy as a ranker: of structures, and of DetNAS's paths, inside the prefilter."""

import math
import re

import numpy as np
import pytest

from detnas_mm.cost import MacsTable, StructureFlops
from detnas_mm.evaluators import EntropyScore, PathEntropy
from detnas_mm.evaluators.entropy_forward import forward_entropy
from detnas_mm.models import DetNASNet
from detnas_mm.search import (
    Budget,
    Constraint,
    Evaluation,
    EvolutionStrategy,
    Ledger,
    Objective,
    ParetoStrategy,
    Searcher,
)
from detnas_mm.spaces import DetNASSpace, MAEDetSpace
from tests.test_search.conftest import CountingEvaluator

TINY = dict(stem=16, channels=(32, 64, 128, 256), blocks=(1, 1, 2, 1))


def test_entropy_of_paths_is_that_of_the_built_net():
    """Against noise run through it: choices in the same order, values within what borders and the concatenation do."""
    ranker = PathEntropy((0, 0, 0, 0, 1))
    ranker.setup(DetNASSpace(TINY), Objective('mAP'), 0)
    archs = [ranker.space.parse(text) for text in ('0|0|00|0', '1|1|11|1', '2|2|22|2', '3|3|33|3')]
    found = ranker.scores(archs)
    assert sorted(found.tolist()) == found.tolist()
    forward = [forward_entropy(DetNASNet(a, TINY, out_indices=(3,)), [1.0], 256, repeats=8) for a in archs]
    assert sorted(forward) == forward
    np.testing.assert_allclose(found, forward, rtol=0.05)


def test_entropy_of_paths_written_out():
    """The smallest space: a stem and two blocks."""
    ranker = PathEntropy((0.0, 1.0, 3.0))
    space = DetNASSpace(dict(stem=4, channels=(8, 16), blocks=(1, 1)))
    ranker.setup(space, Objective('mAP'), 0)
    stem = math.log(27) / 2
    one = stem + (math.log(4) + math.log(25) + math.log(4)) / 2  # shuffle 5x5: 4 to 4, depthwise, 4 to 4
    two = one + (math.log(8) + math.log(9) + math.log(8)) / 2
    expected = one + math.log(8) + 3 * (two + math.log(16))
    assert ranker.scores([space.parse('1|0')])[0] == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ('weights', 'space', 'match'),
    [((1, 1), DetNASSpace(TINY), '2 stage weights .* and 5 stages'), ((1, 1), MAEDetSpace(), 'paths of a DetNASSpace')],
)
def test_what_does_not_fit_is_refused(weights, space, match):
    with pytest.raises(ValueError, match=match):
        PathEntropy(weights).setup(space, Objective('mAP'), 0)


def prefiltered(space, ranker, evaluator, objective, cost, strategy=EvolutionStrategy):
    budget = Budget(space, dict(cost=cost), [Constraint('cost', high=float(np.mean(cost.bounds())))])
    chosen = strategy(
        population=16, parents=6, mutation_prob=1.0, prefilter=dict(ranker=ranker, oversample=4, min_correlation=0.3)
    )  # fmt: skip
    lines = []
    return Searcher(space, chosen, evaluator, [objective], budget, Ledger(None, {}), 4, 0, lines.append, False), lines


class Xceptions(CountingEvaluator):
    """Fitness is the number of Xception blocks, whose six convolutions raise entropy most; or the reverse of it."""

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
    job, lines = prefiltered(space, dict(type='PathEntropy'), Xceptions(sign), Objective('acc'), MacsTable(space))
    job.run()
    found = float(re.search(r'PathEntropy ranked them with a correlation of (-?[\d.]+)', lines[0])[1])
    assert sign * found > 0.5 and ('not filtered' in lines[0]) == (sign < 0)
    assert job.strategy.spec()['prefilter']['ranker'] == PathEntropy().spec()


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
