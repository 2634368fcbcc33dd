"""Distribution of work among ranks, simulated by generators that run in turn, with a store in memory."""

import random

import pytest
import torch.distributed as dist

from detnas_mm.evaluators import ranks
from detnas_mm.evaluators.detection import batches
from detnas_mm.evaluators.ranks import Unit, share_out
from tests.test_evaluators.test_batches import contents, make


class Ranks:
    """Simulates several ranks in one process; ``rank`` is the one that is running."""

    def __init__(self, world, monkeypatch):
        self.world, self.rank, self.store = world, 0, dist.HashStore()
        for module in (ranks, batches):
            monkeypatch.setattr(module, 'get_world_size', lambda: world)
            monkeypatch.setattr(module, 'get_rank', lambda: self.rank)
        monkeypatch.setattr(ranks, 'process_group_store', lambda: self.store)

    def play(self, begin, speeds, seed=0):
        """Returns the results of ``begin(rank)`` of each rank; ranks run in random turns, by their speeds."""
        draw, going = random.Random(seed), {rank: begin(rank) for rank in range(self.world)}
        taken = [[] for _ in range(self.world)]
        while going:
            self.rank = draw.choices(list(going), [speeds[rank] for rank in going])[0]
            try:
                taken[self.rank].append(next(going[self.rank]))
            except StopIteration:
                del going[self.rank]
        return taken


@pytest.fixture
def many(monkeypatch):
    return lambda world: Ranks(world, monkeypatch)


@pytest.mark.parametrize('world', [2, 3, 5, 40])
@pytest.mark.parametrize('seed', range(3))
def test_every_unit_is_done_once(many, world, seed):
    taken = many(world).play(lambda _: share_out(range(23), 4), [1] * world, seed)
    units = sorted(unit for mine in taken for unit in mine)
    whole = max(0, 23 // world - 1) * world
    cut = [Unit(batch, part, 4) for batch in range(whole, 23) for part in range(4)]
    assert units == [*map(Unit, range(whole)), *cut]


def test_a_rank_alone_does_all_and_cuts_nothing():
    assert list(share_out([3, 5], 7)) == [Unit(3), Unit(5)]


def test_ranks_begin_with_their_own_and_take_over_from_slow_ones_at_the_end(many):
    first, slow, third = many(3).play(lambda _: share_out(range(12), 2), [1, 0.05, 1])
    assert [[unit.batch for unit in mine[:3]] for mine in (first, third)] == [[0, 3, 6], [2, 5, 8]]
    assert len(slow) < 3 and slow[0].batch % 3 == 1
    assert Unit(10, 1, 2) in first + third


def test_what_is_done_jointly_later_is_shared_out_anew(many, monkeypatch):
    together = many(2)
    for number in range(2):
        monkeypatch.setattr(ranks, '_joint_works', number)
        taken = together.play(lambda _: share_out(range(4), 1), [1, 1])
        assert sorted(unit.batch for mine in taken for unit in mine) == [0, 1, 2, 3]


@pytest.mark.parametrize('speeds', [(1, 1), (1, 0.02)])
@pytest.mark.parametrize('cache_mb', [1, 0])
def test_data_are_those_of_the_batch_whoever_takes_it(many, monkeypatch, speeds, cache_mb):
    alone = contents(make(batch_size=1))
    together = many(2)
    data = [make(batch_size=1, cache_mb=cache_mb) for _ in range(2)]
    for number in range(3):
        monkeypatch.setattr(ranks, '_joint_works', number)
        taken = together.play(lambda rank: data[rank].walk(range(10), parts=2), speeds, number)
        assert sorted(unit.batch for mine in taken for unit, _ in mine) == [*range(8), 8, 8, 9, 9]
        for unit, found in (pair for mine in taken for pair in mine):
            assert [int(x) for x in found['inputs']] == alone[unit.batch]
    if cache_mb:
        assert all(len(one.dataset.loads) <= 1 + 10 for one in data)  # one to see whether images change
