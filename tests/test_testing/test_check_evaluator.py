"""The conformance suite of evaluators passes good ones and names what is wrong with bad ones."""

import numpy as np
import pytest
import torch

from detnas_mm.evaluators import Evaluator
from detnas_mm.search import Evaluation, Objective
from detnas_mm.systems.detnas import DetNASSpace
from detnas_mm.testing import check_evaluator
from tests.jobs import make_job

SPACE = DetNASSpace('small')
ARCHS = SPACE.sample_many(np.random.default_rng(0), 5)


class Counting(Evaluator):
    """A good one: counts 7x7 blocks; refuses what has none at all of Xception."""

    def setup(self, job, model=None):
        self.job, self.model = job, model

    def spec(self):
        return {'type': type(self).__name__}

    def evaluate(self, archs):
        for arch in archs:
            if 3 not in arch.genes:
                yield Evaluation(failure='no Xception')
            else:
                yield Evaluation({'acc': float(arch.genes.count(2))})


class Drifting(Counting):
    calls = 0

    def evaluate(self, archs):
        for arch in archs:
            self.calls += 1
            yield Evaluation({'acc': arch.genes.count(2) + 1e-12 * self.calls})


class Forgetful(Counting):
    def evaluate(self, archs):
        yield from list(super().evaluate(archs))[:-1]


class Tracing(Counting):
    def evaluate(self, archs):
        for evaluation in super().evaluate(archs):
            self.model.running_mean += 1
            yield evaluation


class Changing(Counting):
    def evaluate(self, archs):
        self.model.eval()
        yield from super().evaluate(archs)


class Drawing(Counting):
    def evaluate(self, archs):
        torch.rand(1)
        yield from super().evaluate(archs)


class Reseeding(Counting):
    def evaluate(self, archs):
        torch.manual_seed(0)
        yield from super().evaluate(archs)


class Failing(Counting):
    def evaluate(self, archs):
        return (Evaluation(failure='no Xception') for arch in archs)


class Tensors(Counting):
    def evaluate(self, archs):
        return (Evaluation({'acc': torch.tensor(1.0)}) for arch in archs)


class BothWays(Counting):
    def evaluate(self, archs):
        return (Evaluation({'acc': 1.0}, 'failed') for arch in archs)


class Growing(Counting):
    rows = 0

    def spec(self):
        self.rows += 1
        return super().spec() | {'rows': self.rows}


class Losing(Counting):
    def evaluate(self, archs):
        return (Evaluation(lost='the machine went away') for arch in archs)


class Refusing(Counting):
    def check(self, job):
        raise ValueError('no such search')


def test_a_good_one_passes_and_its_evaluations_come_back():
    evaluations = check_evaluator(Counting(), SPACE, ARCHS, torch.nn.BatchNorm2d(2))
    assert [e.metrics for e in evaluations] == [{'acc': float(a.genes.count(2))} for a in ARCHS]


def test_it_is_given_the_search():
    """A whole one, or one that is made of the space."""
    job = make_job(SPACE, [Objective('acc')], seed=7)
    for given in (job, SPACE):
        evaluator = Counting()
        check_evaluator(evaluator, given, ARCHS)
        assert evaluator.job.space is SPACE and (evaluator.job is job) == (given is job)


def test_failures_are_allowed():
    archs = [*ARCHS, SPACE.parse('0' * 20)]
    assert check_evaluator(Counting(), SPACE, archs)[-1].failure == 'no Xception'


@pytest.mark.parametrize(
    'evaluator, message',
    [
        (Drifting, 'opposite order'),
        (Forgetful, '5 candidates got 4'),
        (Tracing, 'evaluate.. changed the model or a global'),
        (Changing, 'evaluate.. changed the model or a global'),
        (Drawing, 'evaluate.. changed the model or a global'),
        (Reseeding, 'evaluate.. changed the model or a global'),
        (Failing, 'no candidate was evaluated successfully.*no Xception'),
        (Tensors, 'plain floats'),
        (BothWays, 'must have no metrics'),
        (Growing, 'after evaluating'),
        (Losing, 'was lost .the machine went away., so nothing can be checked'),
        (Refusing, 'no such search'),
    ],
)
def test_bad_evaluators_are_caught(evaluator, message):
    with pytest.raises((AssertionError, ValueError), match=message):
        check_evaluator(evaluator(), SPACE, ARCHS, torch.nn.BatchNorm2d(2))


@pytest.mark.parametrize('evaluator', [Drawing, Reseeding])
def test_without_a_model_too_no_generator_is_touched(evaluator):
    torch.manual_seed(1)
    with pytest.raises(AssertionError, match='evaluate.. changed the model or a global'):
        check_evaluator(evaluator(), SPACE, ARCHS)


def test_too_few_candidates():
    with pytest.raises(AssertionError, match='three different'):
        check_evaluator(Counting(), SPACE, ARCHS[:2])
