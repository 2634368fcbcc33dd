"""Partial-order pruning, rule by rule, and replayed on ledgers."""

import json

import pytest

from detnas_mm.errors import DetNASError
from detnas_mm.search import Objective, Record
from detnas_mm.search.fronts import Stage
from detnas_mm.systems.sm_nas.modules import Modules, precedes
from detnas_mm.systems.sm_nas.pruning import Judged, Pruning, read_notes, replay_stage

#: Three nets, each of which precedes the next: by an inserted block each.
SMALL, MIDDLE, LARGE = (
    Modules.parse(f'seed1:basic_64_{code}_128') for code in ('1-21-21-12', '11-21-21-12', '11-21-211-12')
)
#: A net that has nothing to do with them.
OTHER = Modules.parse('seed2:basic_64_1-21-21-12_128')
OBJECTIVES = [Objective('mAP'), Objective('ms', 'minimize')]


def reason(cost, *trained, net=SMALL, spread=0.0, budget=None):
    return Pruning(trained, precedes, budget).reason(net, cost, spread)


def test_a_smaller_net_that_is_no_faster_than_a_better_one_is_dropped():
    better, worse = Judged(OTHER, 0.5, 20.0), Judged(LARGE, 0.4, 30.0)
    found = reason(25.0, better, worse)
    assert (found.larger, found.faster) == (worse, better)


@pytest.mark.parametrize(
    'cost, trained, why',
    [
        (19.0, [Judged(OTHER, 0.5, 20.0), Judged(LARGE, 0.4, 30.0)], 'it is faster than all that are as good'),
        (25.0, [Judged(OTHER, 0.39, 20.0), Judged(LARGE, 0.4, 30.0)], 'the faster one is not as good'),
        (25.0, [Judged(OTHER, 0.5, 20.0)], 'no larger relative was trained'),
        (25.0, [Judged(OTHER, 0.5, 20.0), Judged(SMALL, 0.4, 30.0)], 'itself is no larger relative'),
        (25.0, [], 'nothing was trained'),
    ],
)
def test_nothing_else_is_dropped(cost, trained, why):
    assert reason(cost, *trained) is None, why


def test_a_larger_net_is_never_dropped_by_its_smaller_relative():
    assert reason(99.0, Judged(OTHER, 0.5, 1.0), Judged(SMALL, 0.4, 2.0), net=LARGE) is None


def test_a_relative_that_is_faster_itself_is_enough():
    assert reason(25.0, Judged(LARGE, 0.4, 24.0)).faster.arch == LARGE


def test_any_relative_of_any_distance_counts_and_the_fastest_decides():
    trained = [Judged(OTHER, 0.5, 22.0), Judged(MIDDLE, 0.3, 40.0), Judged(LARGE, 0.6, 30.0)]
    found = reason(23.0, *trained)
    assert found.larger.arch == MIDDLE and found.faster.arch == OTHER
    assert reason(23.0, trained[0], trained[2]) is None  # nothing as good as the large one is as fast


def test_nets_of_one_accuracy_are_as_good_as_one_another():
    assert reason(25.0, Judged(LARGE, 0.4, 30.0), Judged(OTHER, 0.4, 20.0)).faster.arch == OTHER


@pytest.mark.parametrize('own, other', [(2.0, 0.0), (0.0, 2.0), (2.0, 2.0)])
def test_ties_within_the_spread_of_latency_drop_nothing(own, other):
    trained = [Judged(OTHER, 0.5, 20.0, other), Judged(LARGE, 0.4, 30.0)]
    assert reason(21.9, *trained, spread=own) is None
    assert reason(22.1, *trained, spread=own) is not None


def test_without_spread_a_net_that_is_exactly_as_fast_is_dropped():
    assert reason(20.0, Judged(OTHER, 0.5, 20.0), Judged(LARGE, 0.4, 30.0)) is not None


def test_the_order_holds_among_equal_budgets_only():
    better, worse = Judged(OTHER, 0.5, 20.0, budget=12), Judged(LARGE, 0.4, 30.0, budget=12)
    assert reason(25.0, better, worse, budget=12) is not None
    assert reason(25.0, better, worse, budget=24) is None
    assert reason(25.0, better, Judged(LARGE, 0.4, 30.0, budget=1), budget=12) is None
    assert reason(25.0, Judged(OTHER, 0.5, 20.0, budget=1), worse, budget=12) is None


def test_costs_of_nets_without_larger_relatives_are_of_no_concern():
    pruning = Pruning([Judged(MIDDLE, 0.4, 30.0)], precedes)
    assert pruning.concerns(SMALL) and not pruning.concerns(LARGE) and not pruning.concerns(OTHER)


# -- replayed -------------------------------------------------------------------------------------------------------


def row(index, net, generation, gain, ms, status='ok', **details):
    metrics = dict(mAP=gain) if status == 'ok' else {}
    reason = None if status == 'ok' else 'why'
    return Record(
        index, generation, f'{index:012x}', str(net), 'random', (), status, reason, metrics, dict(ms=ms),
        details=details,
    )  # fmt: skip


def stage(*rows, kind='ModularSpace'):
    return Stage('search', dict(space=dict(type=kind)), rows)


ROWS = (row(0, OTHER, 0, 0.5, 20.0), row(1, LARGE, 0, 0.4, 30.0), row(2, SMALL, 1, 0.45, 25.0))


def test_a_finished_ledger_says_what_pruning_would_have_spared():
    effect = replay_stage(stage(*ROWS), OBJECTIVES, 0.0)
    assert effect.spared == [ROWS[2]] and effect.lost == [] and len(effect.rows) == 3
    assert effect.front == effect.kept == [ROWS[0]]


def test_a_search_that_names_its_cost_first_is_replayed_alike():
    cost_first = Stage('search', dict(space=dict(type='ModularSpace'), budget=dict(costs=dict(ms={}))), ROWS)
    assert replay_stage(cost_first, OBJECTIVES[::-1], 0.0).spared == [ROWS[2]]


def test_what_was_better_than_the_order_expects_is_lost_from_the_front():
    surprising = row(2, SMALL, 1, 0.7, 25.0)
    effect = replay_stage(stage(*ROWS[:2], surprising), OBJECTIVES, 0.0)
    assert effect.lost == effect.spared == [surprising]
    assert effect.front == [surprising, ROWS[0]] and effect.kept == [ROWS[0]]


def test_rows_of_one_generation_say_nothing_of_one_another():
    assert replay_stage(stage(ROWS[0], ROWS[1], row(2, SMALL, 0, 0.45, 25.0)), OBJECTIVES, 0.0).spared == []


def test_spared_rows_spare_no_others():
    last = row(3, SMALL, 2, 0.2, 26.0)
    middle = row(2, MIDDLE, 1, 0.3, 25.0)
    assert replay_stage(stage(ROWS[0], middle, last), OBJECTIVES, 0.0).spared == [last]
    effect = replay_stage(stage(ROWS[0], ROWS[1], middle, row(3, SMALL, 2, 0.2, 19.0)), OBJECTIVES, 0.0)
    assert effect.spared == [middle]


@pytest.mark.parametrize('status', ['failed', 'dropped'])
def test_rows_that_failed_neither_prune_nor_are_pruned(status):
    failed = row(1, LARGE, 0, 0.4, 30.0, status)
    assert replay_stage(stage(ROWS[0], failed, ROWS[2]), OBJECTIVES, 0.0).spared == []
    effect = replay_stage(stage(*ROWS[:2], row(2, SMALL, 1, 0.0, 25.0, status)), OBJECTIVES, 0.0)
    assert effect.spared == [] and len(effect.rows) == 2


def test_rows_of_other_budgets_neither_prune_nor_are_pruned():
    first = (row(0, OTHER, 0, 0.5, 20.0, epochs=12), row(1, LARGE, 0, 0.4, 30.0, epochs=12))
    for epochs, spared in ((12, 1), (24, 0)):
        effect = replay_stage(stage(*first, row(2, SMALL, 1, 0.45, 25.0, epochs=epochs)), OBJECTIVES, 0.0)
        assert len(effect.spared) == spared


def test_spreads_are_of_all_rows_or_by_id():
    assert replay_stage(stage(*ROWS), OBJECTIVES, 6.0).spared == []
    assert replay_stage(stage(*ROWS), OBJECTIVES, {ROWS[2].id: 6.0}).spared == []
    assert replay_stage(stage(*ROWS), OBJECTIVES, {ROWS[1].id: 6.0}).spared == [ROWS[2]]


def test_other_spaces_have_no_order():
    assert replay_stage(stage(*ROWS, kind='StructuralSpace'), OBJECTIVES, 0.0) is None


def test_notes_of_a_search_are_read(tmp_path):
    assert read_notes(tmp_path) == (None, {})
    file = tmp_path / 'pruning.json'
    file.write_text(json.dumps(dict(spared=[{}, {}], spreads=dict(a=1.5))))
    assert read_notes(tmp_path) == (2, dict(a=1.5))
    file.write_text('[]')
    with pytest.raises(DetNASError, match=r'pruning\.json is damaged'):
        read_notes(tmp_path)
