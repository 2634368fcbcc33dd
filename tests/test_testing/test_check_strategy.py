"""The conformance suite of strategies passes good ones and names what is wrong with bad ones."""

import functools
import random
from dataclasses import replace

import numpy as np
import pytest

from detnas_mm.search import EvolutionStrategy, Proposal, RandomStrategy, Strategy, UnmeetableConstraint
from detnas_mm.search.loop import make_record
from detnas_mm.testing import check_runs, check_strategy, toy_job


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
    def setup(self, job):
        super().setup(replace(job, seed=0))


class Endless(RandomStrategy):
    """Never empty, though the space is used up."""

    def ask(self, generation):
        return super().ask(generation) or [Proposal(self.space.smallest())]


class Silent(RandomStrategy):
    def ask(self, generation):
        try:
            return super().ask(generation)
        except UnmeetableConstraint:
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
        (HiddenState, 'for equal generators|with the same rows'),
        (GlobalDraws, 'draws from a global generator'),
        (Forgetful, 'proposes candidates twice'),
        (Lavish, 'do not meet|proposes candidates twice'),
        (Careless, 'parents that failed'),
        (Seedless, 'the same for two seeds'),
        (Endless, 'must be empty'),
        (Silent, 'must raise UnmeetableConstraint'),
        (OddSpec, 'does not survive JSON'),
    ],
)
def test_bad_strategies_are_caught(make, message):
    with pytest.raises(AssertionError, match=message):
        check_strategy(make)


# -- the loop -----------------------------------------------------------------------------------------------------


class ByFile(RandomStrategy):
    """Asks otherwise on ranks that have no file."""

    def run(self, evaluator, ledger):
        self.seed += ledger.path is None
        return super().run(evaluator, ledger)


class ByStart(RandomStrategy):
    """Asks otherwise in a search that is resumed, from the second generation on."""

    def run(self, evaluator, ledger):
        self.seed += len(ledger.records) > 0
        return super().run(evaluator, ledger)


class ByRowsThere(ByStart):
    """The same from the first generation on."""

    def run(self, evaluator, ledger):
        self._kept = None
        self._seen.clear()
        return super().run(evaluator, ledger)


class ByProcess(RandomStrategy):
    """Asks by how much this process has evaluated of a search that is under way."""

    def run(self, evaluator, ledger):
        self.running = True
        return super().run(evaluator, ledger)

    def propose(self, generation, rng):
        here = len(self.job.evaluator.asked) if hasattr(self, 'running') else 0
        return super().propose(generation, np.random.default_rng([self.seed, generation, here]))


class RowsOfTheFile(RandomStrategy):
    """Resumes by the file, which ranks other than 0 do not have."""

    def run(self, evaluator, ledger):
        if ledger.records and ledger.path is None:
            ledger.records.clear()
        return super().run(evaluator, ledger)


@pytest.mark.parametrize(
    'make, message',
    [
        (ByFile, 'a rank without a ledger file proposes other candidates'),
        (ByStart, 'the rows of a killed and resumed search differ'),
        (
            ByRowsThere,
            'a resumed search proposes other candidates .* its rows are not the candidates .* in generation 0',
        ),
        (
            ByProcess,
            'a resumed search proposes other candidates .* its rows are not the candidates .* in generation 1',
        ),
        (RowsOfTheFile, 'a rank that gets the rows proposes other'),
    ],
)
def test_ranks_and_starts_that_ask_otherwise_are_caught(make, message):
    with pytest.raises(AssertionError, match=message):
        check_strategy(functools.partial(make, population=10))


class OneByOne(Strategy):
    """A strategy without ask() and tell(): a loop of its own that writes a row for each of twelve draws."""

    def spec(self):
        return {'type': 'OneByOne'}

    def run(self, evaluator, ledger):
        for number in range(len(ledger.records), 12):
            arch = self.job.space.sample(self.generator(number))
            (evaluation,) = evaluator.evaluate([arch])
            ledger.append(make_record(self.job, ledger, number, Proposal(arch), evaluation))
        return self.job.objectives[0].best_first(ledger.records)

    def generator(self, number):
        return np.random.default_rng([self.job.seed, number])


class OneGenerator(OneByOne):
    """Begins its draws again where it is resumed."""

    def setup(self, job):
        super().setup(job)
        self.rng = np.random.default_rng(job.seed)

    def generator(self, number):
        return self.rng


def test_strategies_with_a_loop_of_their_own():
    check_runs(lambda **changes: toy_job(OneByOne(), **changes))
    with pytest.raises(AssertionError, match='killed and resumed search differ'):
        check_runs(lambda **changes: toy_job(OneGenerator(), **changes))
