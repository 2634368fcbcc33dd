"""The conformance suite of population strategies passes the package's and names what is wrong with bad ones."""

import functools
import random
from abc import ABC, abstractmethod
from dataclasses import replace

import numpy as np
import pytest

from detnas_mm.search import Population, PopulationEvolution
from detnas_mm.testing import ToyEvaluator, check_population_strategy


class Counting(PopulationEvolution):
    """Every instance draws differently, so a resumed search differs."""

    made = 0

    def setup(self, job):
        super().setup(job)
        Counting.made += 1
        self.seed += Counting.made


class GlobalDraws(PopulationEvolution):
    def advance(self, generation, population, score):
        random.random()
        return super().advance(generation, population, score)


class Seedless(PopulationEvolution):
    def setup(self, job):
        super().setup(replace(job, seed=0))


class Forgetful(PopulationEvolution):
    """Starts every generation from a new population."""

    def advance(self, generation, population, score):
        found = super().advance(generation, None, score)
        drawn = population.drawn if population else 0
        return replace(found, drawn=found.drawn + drawn, evaluated=found.evaluated + drawn)


class Changed(PopulationEvolution, ABC):
    """Makes something else of what the package's gives back."""

    @abstractmethod
    def change(self, population: Population) -> Population:
        """Changes the returned population."""

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
        codes = np.full((1, self.space.positions), self.space.choices - 1)
        return replace(population, codes=codes, gains=ToyEvaluator().score_codes(codes), born=np.zeros(1, int))


class Stranger(Changed):
    def change(self, population):
        return replace(population, codes=population.codes + self.space.choices)


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


class Restarting(PopulationEvolution):
    """Begins with a new population where it is resumed."""

    def _restored(self, ledger, score):
        return None


class Miscounting(PopulationEvolution):
    """Counts what is drawn from the beginning where it is resumed."""

    def _restored(self, ledger, score):
        restored = super()._restored(ledger, score)
        return restored and replace(restored, drawn=0)


class ByFile(PopulationEvolution):
    """Draws otherwise on ranks that have no file."""

    def run(self, evaluator, ledger):
        self.seed += ledger.path is None
        return super().run(evaluator, ledger)


class RowsOfTheFile(PopulationEvolution):
    """Resumes by the file, which ranks other than 0 do not have."""

    def _restored(self, ledger, score):
        return super()._restored(ledger, score) if ledger.path else None


small = functools.partial(functools.partial, population=8, candidates=60, batch=20, max_attempts=2000)


@pytest.mark.parametrize('kwargs', [{}, dict(start=['0' * 12]), dict(mutation_prob=0.3)])
def test_the_strategy_of_the_package_passes(kwargs):
    check_population_strategy(small(PopulationEvolution, **kwargs))


@pytest.mark.parametrize(
    ('kind', 'message'),
    [
        (Counting, 'must depend only on the seed'),
        (GlobalDraws, 'draws from a global generator'),
        (Seedless, 'the same for two seeds'),
        (Forgetful, 'has lost the best'),
        (Worst, 'is not sorted by gain, best first'),
        (Twice, 'has duplicate members'),
        (Stale, 'gains that differ from the scores'),
        (Lavish, 'do not meet toy'),
        (Stranger, 'not in the space'),
        (Idle, 'counts 0 drawn'),
        (Silent, 'must raise UnmeetableConstraint'),
        (OddSpec, 'does not survive JSON'),
        (Restarting, 'killed and resumed search differ'),
        (Miscounting, 'killed and resumed search differ'),
        (ByFile, 'a rank without a ledger file proposes other'),
        (RowsOfTheFile, 'a rank that gets the rows proposes other'),
    ],
)
def test_bad_strategies_are_caught(kind, message):
    with pytest.raises(AssertionError, match=message):
        check_population_strategy(small(kind))
