"""A search by gradient that is killed at any moment and resumed ends with the bits of one that was never killed."""

import pytest

from tests.test_engine.seeded_training import final
from tests.test_nats.gradient import found, found_rows, in_process

pytestmark = pytest.mark.slow
#: In the first epoch; between the second one's row and its checkpoint, while that is written, after it; in the third
#: epoch; between its row and its checkpoint. A run repeats what it had not saved, so each of them is reached.
MOMENTS = [('iteration', 1), ('row', 1), ('writing', 1), ('checkpoint', 1), ('iteration', 7), ('row', 2)]


@pytest.fixture(scope='module')
def never_killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp('search') / 'whole'
    assert in_process(folder) == 0
    return final(folder), found(folder)


def test_killed_and_resumed_it_ends_the_same(tmp_path, never_killed):
    """At six moments, one after the other, in one folder: rows are those of the whole search from the start."""
    folder = tmp_path / 'killed'
    rows = never_killed[1][0]
    for moment, count in zip(MOMENTS, (0, 2, 2, 2, 2, 3), strict=True):
        assert in_process(folder, kill=moment) == -9, moment
        assert found_rows(folder) == rows[:count], moment
    assert in_process(folder) == 0
    assert final(folder) == never_killed[0]
    assert found(folder) == never_killed[1]


def test_another_seed_ends_otherwise(tmp_path, never_killed):
    assert in_process(tmp_path / 'other', **{'randomness.seed': 1}) == 0
    assert final(tmp_path / 'other') != never_killed[0]


def test_alpha_of_the_two_kinds_of_epoch(never_killed):
    """The comparisons above compare something: α is trained, and the rows change with it."""
    alphas = [value for key, value in never_killed[0]['model'].items() if key.endswith('.alpha')]
    assert len(alphas) == 12 and all(any(map(any, one)) for one in alphas)
    rows = never_killed[1][0]
    assert rows[0]['metrics']['alpha_entropy'] == 1 > rows[1]['metrics']['alpha_entropy']
    assert len({row['arch'] for row in rows}) > 1


def test_two_ranks_stay_equal(tmp_path):
    """Parameters, α and the state of both optimisers, past the epoch from which on α is stepped."""
    folder = tmp_path / 'two'
    assert in_process(folder, ranks=2) == [0, 0]
    first, second = final(folder), final(folder, 1)
    statistics = {key for key in first['model'] if 'running' in key or 'num_batches' in key}
    assert {key: value for key, value in first['model'].items() if key not in statistics} == {
        key: value for key, value in second['model'].items() if key not in statistics
    }
    assert first['optimiser'] == second['optimiser']
    assert any(map(any, first['model']['backbone.layer2.0.conv1.alpha']))
    rows, best, _ = found(folder)
    assert len(rows) == 3 and rows[-1]['arch'] == best['arch'] and rows[-1]['metrics']['alpha_entropy'] < 1
