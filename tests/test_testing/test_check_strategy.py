"""The conformance suite of strategies passes good ones and names what is wrong with bad ones."""

import functools
import random

import pytest

from detnas_mm.search import EvolutionStrategy, Proposal, RandomStrategy
from detnas_mm.testing import check_strategy


class HiddenState(RandomStrategy):
    """Counts instances, so a replayed search asks for other candidates."""

    made = 0

    def __init__(self):
        super().__init__()
        HiddenState.made += 1
        self.own = HiddenState.made

    def ask(self, generation):
        return super().ask(generation + 1000 * self.own)


class GlobalDraws(RandomStrategy):
    def propose(self, generation, rng):
        random.random()
        return super().propose(generation, rng)


class Forgetful(RandomStrategy):
    def ask(self, generation):
        self._seen.clear()
        return super().ask(generation % 2)


class Lavish(RandomStrategy):
    def propose(self, generation, rng):
        return [Proposal(arch) for arch in self.space.sample_many(rng, 20)]


class Careless(EvolutionStrategy):
    """Takes parents as they come, failed or not."""

    def propose(self, generation, rng):
        parents = [self.space.parse(record.arch) for record in self.records[-20:]]
        if not parents:
            return self.draw_random(self.population, rng)

        def mutations(count):
            picks = [parents[i] for i in rng.integers(len(parents), size=count)]
            return [Proposal(self.space.mutate(a, rng, 0.5), 'mutation', (a.id,)) for a in picks]

        return self.draw_new(self.population, mutations)


class Seedless(RandomStrategy):
    def setup(self, space, budget, objectives, seed):
        super().setup(space, budget, objectives, 0)


class Endless(RandomStrategy):
    """Never empty, though the space is used up."""

    def ask(self, generation):
        return super().ask(generation) or [Proposal(self.space.parse('0|00'))]


class Silent(RandomStrategy):
    def ask(self, generation):
        try:
            return super().ask(generation)
        except ValueError:
            return []


class OddSpec(RandomStrategy):
    def spec(self):
        return super().spec() | {'range': (1, 2)}


@pytest.mark.parametrize(
    'make', [RandomStrategy, EvolutionStrategy, functools.partial(EvolutionStrategy, 20, 5, random=4)]
)
def test_the_strategies_of_the_package_pass(make):
    check_strategy(functools.partial(make, max_attempts=1000))


@pytest.mark.parametrize(
    'make, message',
    [
        (HiddenState, 'for equal generators|told the same rows'),
        (GlobalDraws, 'draws from a global generator'),
        (Forgetful, 'asks twice'),
        (Lavish, 'do not meet|asks twice'),
        (Careless, 'parents that failed'),
        (Seedless, 'the same for two seeds'),
        (Endless, 'must be empty'),
        (Silent, 'must raise UnmeetableConstraint'),
        (OddSpec, 'does not survive JSON'),
    ],
)
def test_bad_strategies_are_told_what_is_wrong(make, message):
    with pytest.raises(AssertionError, match=message):
        check_strategy(make)
