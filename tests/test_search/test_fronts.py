"""Fronts of several searches: what is compared with what, and how much each front dominates."""

import numpy as np
import pytest

from detnas_mm.errors import DetNASError
from detnas_mm.search import Ledger, Objective, Record
from detnas_mm.search.fronts import Stage, common_objectives, joint_front, reference_point, training_budget, volume
from detnas_mm.search.pareto import hypervolume

OBJECTIVES = [Objective('mAP'), Objective('ms', 'minimize')]


def row(index, gain, ms, status='ok', **details):
    reason = None if status == 'ok' else 'why'
    return Record(
        index, 0, f'{index:012x}', f'net{index}', 'random', (), status, reason, dict(mAP=gain), dict(ms=ms),
        details=details,
    )  # fmt: skip


def stage(name, *rows, recipe='from_scratch', evaluator=None, objectives=OBJECTIVES):
    header = dict(
        space=dict(type='Any', recipe=recipe),
        evaluator=evaluator or dict(type='E'),
        objectives=[vars(o) for o in objectives],
    )
    return Stage(name, header, rows)


# -- hypervolume ----------------------------------------------------------------------------------------------------


def test_the_hypervolume_of_two_nets_is_the_area_under_both():
    gains = np.array([[3.0, 1.0], [1.0, 2.0]])
    assert hypervolume(gains, np.zeros(2)) == 3 * 1 + 1 * 1
    assert hypervolume(gains, np.array([0.5, 0.5])) == 2.5 * 0.5 + 0.5 * 1


def test_dominated_nets_equal_ones_and_ones_below_the_reference_add_nothing():
    gains = np.array([[3.0, 1.0], [1.0, 2.0]])
    more = np.concatenate([gains, gains, [[0.5, 0.5], [9.0, -1.0], [-1.0, 9.0], [3.0, 0.2]]])
    assert hypervolume(more, np.zeros(2)) == hypervolume(gains, np.zeros(2))
    assert hypervolume(np.empty((0, 2)), np.zeros(2)) == 0.0


def test_the_hypervolume_is_the_share_of_points_that_are_dominated():
    rng = np.random.default_rng(0)
    gains, points = rng.random((12, 2)), rng.random((200_000, 2))
    share = (gains[None] >= points[:, None]).all(-1).any(1).mean()
    assert hypervolume(gains, np.zeros(2)) == pytest.approx(share, abs=0.005)


def test_volumes_are_in_the_objectives_units():
    rows = [row(0, 0.3, 20.0), row(1, 0.4, 30.0), row(2, 0.9, 1.0, 'failed')]
    assert volume(rows, OBJECTIVES, (0.0, 50.0)) == pytest.approx(0.3 * 30 + 0.1 * 20)
    assert volume(rows[2:], OBJECTIVES, (0.0, 50.0)) == 0.0
    assert reference_point(rows, OBJECTIVES) == (0.0, 30.0)


# -- the joint front ------------------------------------------------------------------------------------------------


def test_nets_that_were_trained_alike_have_one_front():
    first = stage('first', row(0, 0.3, 20.0), row(1, 0.5, 60.0))
    second = stage('second', row(0, 0.4, 25.0), row(1, 0.45, 70.0))
    joint = joint_front([first, second], OBJECTIVES)
    assert [(name, record.arch) for name, record in joint.front] == [
        ('first', 'net1'), ('second', 'net0'), ('first', 'net0'),
    ]  # fmt: skip
    assert len(joint.rows) == 4 and joint.left_out == {}


@pytest.mark.parametrize('change', [dict(recipe=None), dict(evaluator=dict(type='E', schedule='1 epochs'))])
def test_nets_of_another_recipe_or_evaluator_are_counted_and_left_out(change):
    first = stage('first', row(0, 0.9, 1.0), row(1, 0.8, 2.0, 'failed'), **change)
    second = stage('second', row(0, 0.4, 25.0), row(1, 0.45, 70.0))
    joint = joint_front([first, second], OBJECTIVES)
    assert {name for name, _ in joint.front} == {'second'} and joint.left_out == dict(first=1)


@pytest.mark.parametrize('unit', ['epochs', 'iterations'])
def test_rows_of_another_budget_are_never_in_it(unit):
    rows = row(0, 0.4, 25.0, **{unit: 12}), row(1, 0.9, 1.0, **{unit: 3}), row(2, 0.5, 30.0, **{unit: 12})
    joint = joint_front([stage('first', rows[1]), stage('second', *rows)], OBJECTIVES)
    assert [record.arch for _, record in joint.front] == ['net2', 'net0']
    assert joint.left_out == dict(first=1, second=1)
    assert training_budget(rows[0]) == {unit: 12}


def test_rows_that_were_trained_in_another_way_are_joined_with_their_like_alone():
    """By details: seeds of stage 2 may bring the augmentation of their own configs."""
    usual, other = row(0, 0.4, 25.0), row(1, 0.9, 1.0, own_training='0a1b')
    joint = joint_front([stage('first', usual), stage('second', usual, other)], OBJECTIVES)
    assert [record for _, record in joint.rows] == [other] and joint.left_out == dict(first=1, second=1)
    joint = joint_front([stage('first', other), stage('second', other, usual)], OBJECTIVES)
    assert [record for _, record in joint.rows] == [usual] and joint.left_out == dict(first=1, second=1)


def test_failed_and_dropped_rows_are_on_no_front():
    second = stage('second', row(0, 0.4, 25.0), row(1, 0.9, 1.0, 'failed'), row(2, 0.9, 1.0, 'dropped'))
    joint = joint_front([stage('first'), second], OBJECTIVES)
    assert len(joint.rows) == 1 and joint.left_out == {}
    assert joint_front([stage('first'), stage('second')], OBJECTIVES).front == []


# -- what can be compared -------------------------------------------------------------------------------------------


def test_searches_of_other_objectives_are_refused():
    other = stage('other', objectives=[Objective('mAP'), Objective('macs', 'minimize')])
    with pytest.raises(DetNASError, match=r'other has the objectives mAP \(maximize\) and macs .*, and one mAP'):
        common_objectives([stage('one'), other])
    with pytest.raises(DetNASError, match=r'one has the objectives mAP \(maximize\); fronts are compared for two'):
        common_objectives([stage('one', objectives=OBJECTIVES[:1])])
    assert common_objectives([stage('one'), stage('two')]) == OBJECTIVES


def test_latencies_of_two_devices_are_not_compared():
    def on(name, device, table):
        own = stage(name)
        costs = dict(ms=dict(type='NetLatency', device=dict(kind='cpu', name=device), table=table))
        return Stage(name, own.header | dict(budget=dict(costs=costs)), ())

    assert common_objectives([on('one', 'A', 1), on('two', 'A', 2)]) == OBJECTIVES
    with pytest.raises(
        DetNASError, match=r'ms of two and of one were measured differently.*device.name: there "A", now "B"'
    ):
        common_objectives([on('one', 'A', 1), on('two', 'B', 1)])


def test_a_stage_is_read_from_its_folder(tmp_path):
    with Ledger(tmp_path / 'search' / 'ledger.jsonl', dict(stage('x').header)) as ledger:
        ledger.append(row(0, 0.3, 20.0))
    read = Stage.read(tmp_path / 'search')
    assert (read.name, read.objectives, len(read.records)) == ('search', OBJECTIVES, 1)
    assert Stage.read(tmp_path / 'search' / 'ledger.jsonl', 'mine').name == 'mine'
    with pytest.raises(DetNASError, match='There is no ledger'):
        Stage.read(tmp_path)
