"""Measuring in turn, with a fake clock."""

import numpy as np
import pytest

from detnas_mm.latency.timing import Pace, interleaved, spread, steadied


class World:
    """A fake clock that measured functions advance; records calls and pauses."""

    def __init__(self):
        self.now = 0.0
        self.log = []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.log.append(('rest', seconds))

    def thing(self, name, *parts, slow=lambda now: 1.0):
        def run():
            taken = [part * slow(self.now) for part in parts]
            self.now += sum(taken)
            self.log.append(name)
            return taken

        return run


def measure(world, things, **pace):
    return interleaved(things, Pace(**pace), clock=world.clock, sleep=world.sleep)


def test_everything_runs_in_every_round_in_new_order_with_rests():
    world = World()
    things = {name: world.thing(name, 1.0) for name in 'abcdef'}
    samples = measure(world, things, rounds=4, min_time=0, pause=0.5)
    runs = [one for one in world.log if one in things]
    rounds = [runs[i : i + 6] for i in range(0, len(runs), 6)]
    assert len(rounds) == 5 and all(sorted(one) == sorted(things) for one in rounds)  # the first warms up
    assert len({tuple(one) for one in rounds}) == 5
    assert world.log[1::2] == [('rest', 0.5)] * 30
    assert {name: rounds.tolist() for name, rounds in samples.items()} == {name: [[1.0]] * 4 for name in things}


def test_the_order_follows_the_seed():
    logs = []
    for seed in (0, 0, 1):
        world = World()
        measure(world, {name: world.thing(name, 1.0) for name in 'abcdef'}, rounds=2, seed=seed)
        logs.append(world.log)
    assert logs[0] == logs[1] != logs[2]


def test_what_is_small_is_repeated():
    world = World()
    measure(world, dict(short=world.thing('short', 0.25, 0.25), long=world.thing('long', 8.0)), rounds=2, min_time=2)
    assert (world.log.count('short'), world.log.count('long')) == (3 * 4, 3)


def test_of_a_round_the_quickest_run_counts_with_all_its_parts():
    """The first round does not count, although it is the fastest here."""
    world, runs = World(), iter([(0, 1), (0, 1), (0, 1), (1, 9), (5, 2), (4, 90), (3, 3), (1, 4), (9, 0)])

    def thing():
        world.now += 1
        return next(runs)

    assert measure(world, dict(a=thing), rounds=2, min_time=3)['a'].tolist() == [[5, 2], [1, 4]]


def test_slow_rounds_favour_nobody():
    """A machine that is slower for a while: ever more so, but alike for all things of a round."""
    fair = dict(a=np.ones((5, 1)), b=np.full((5, 2), 2.0), c=np.full((5, 1), 3.0))
    slowness = np.array([1.0, 1.5, 1.0, 3.0, 0.5])
    slow = {name: rounds * slowness[:, None] for name, rounds in fair.items()}
    even = steadied(slow)
    for name, rounds in even.items():
        assert np.allclose(rounds, fair[name], rtol=1e-12)
    assert spread(slow['a']).tolist() == [0.5] and spread(even['a']).tolist() == [0]


def test_what_one_thing_suffered_alone_is_left_to_it():
    samples = {name: np.full((4, 1), 2.0) for name in 'abc'}
    samples['a'] = np.array([[2.0], [2.0], [2.0], [9.0]])
    assert {name: rounds.tolist() for name, rounds in steadied(samples).items()} == {
        name: rounds.tolist() for name, rounds in samples.items()
    }


@pytest.mark.parametrize('bad', [dict(rounds=1), dict(min_time=-1), dict(pause=-0.1)])
def test_a_pace_that_does_not_fit_is_refused(bad):
    with pytest.raises(ValueError, match='rounds must be at least 2'):
        Pace(**bad)
