"""The conformance suite of population strategies passes the package's and names what is wrong with bad ones."""

import functools
import random
from abc import ABC, abstractmethod
from dataclasses import replace

import numpy as np
import pytest

from detnas_mm.search import Population, PopulationEvolution
from detnas_mm.testing import check_population_strategy


class Counting(PopulationEvolution):
    """Every instance draws otherwise, so a search that is started again goes on otherwise."""

    made = 0

    def setup(self, *args):
        super().setup(*args)
        Counting.made += 1
        self.seed += Counting.made


class GlobalDraws(PopulationEvolution):
    def advance(self, generation, population, score):
        random.random()
        return super().advance(generation, population, score)


class Seedless(PopulationEvolution):
    def setup(self, space, budget, objectives, seed):
        super().setup(space, budget, objectives, 0)


class Forgetful(PopulationEvolution):
    """Every generation begins anew."""

    def advance(self, generation, population, score):
        found = super().advance(generation, None, score)
        drawn = population.drawn if population else 0
        return replace(found, drawn=found.drawn + drawn, evaluated=found.evaluated + drawn)


class Changed(PopulationEvolution, ABC):
    """Makes something else of what the package's gives back."""

    @abstractmethod
    def change(self, population: Population) -> Population:
        """What is given back instead."""

    def advance(self, generation, population, score):
        return self.change(super().advance(generation, population, score))


class Worst(Changed):
    def change(self, population):
        return replace(population, codes=population.codes[::-1], gains=population.gains[::-1])


class Twice(Changed):
    def change(self, population):
        rows = np.repeat(np.arange(len(population.codes)), 2)
        return replace(population, codes=population.codes[rows], gains=population.gains[rows],
                       born=population.born[rows])  # fmt: skip


class Stale(Changed):
    def change(self, population):
        return replace(population, gains=population.gains + 1)


class Lavish(Changed):
    def change(self, population):
        codes = np.array([self.space.largest().genes])
        gains = np.log(codes) @ np.arange(1.0, codes.shape[1] + 1)
        return replace(population, codes=codes, gains=gains, born=np.zeros(1, int))


class Stranger(Changed):
    def change(self, population):
        return replace(population, codes=population.codes + 1)


class Idle(Changed):
    def change(self, population):
        return replace(population, drawn=0)


class Silent(PopulationEvolution):
    def _begin(self, rng, score):
        try:
            return super()._begin(rng, score)
        except ValueError:
            codes = self.space.encode([self.space.smallest()])
            return Population(codes, score(codes), np.zeros(1, int))


class OddSpec(PopulationEvolution):
    def spec(self):
        return super().spec() | {'range': (1, 2)}


small = functools.partial(functools.partial, population=8, candidates=60, batch=20, max_attempts=2000)


@pytest.mark.parametrize('kwargs', [{}, dict(start=['maedet-init']), dict(mutation_prob=0.3)])
def test_the_strategy_of_the_package_passes(kwargs):
    check_population_strategy(small(PopulationEvolution, **kwargs))


@pytest.mark.parametrize(
    ('kind', 'message'),
    [
        (Counting, 'must follow from the seed'),
        (GlobalDraws, 'draws from a global generator'),
        (Seedless, 'the same for two seeds'),
        (Forgetful, 'has lost the best'),
        (Worst, 'does not have the best first'),
        (Twice, 'has members twice'),
        (Stale, 'gains that its members do not score'),
        (Lavish, 'do not meet flops'),
        (Stranger, 'none of the space'),
        (Idle, 'counts 0 drawn'),
        (Silent, 'must raise UnmeetableConstraint'),
        (OddSpec, 'does not survive JSON'),
    ],
)
def test_bad_strategies_are_told_what_is_wrong(kind, message):
    with pytest.raises(AssertionError, match=message):
        check_population_strategy(small(kind))
