"""Tasks that are lost: when they are tried again, when they count as failed, and when the workers count as broken."""

from pathlib import Path

import pytest

from detnas_mm.errors import DetNASError
from detnas_mm.workers import Outcome, Task, Workers, WorkersBroken, run_in_order

KILLED = 'killed by signal 9 (SIGKILL)'


class Scripted(Workers):
    """Loses tasks as often as ``losses`` says, and finishes them in its own order."""

    def __init__(self, losses=None, order=lambda places: places, why=KILLED, standing=()):
        super().__init__(1, 1)
        self.losses, self.order, self.why, self.standing, self.runs = dict(losses or {}), order, why, standing, []

    def run(self, tasks):
        for place in self.order(list(range(len(tasks)))):
            key = tasks[place].key
            self.runs.append(key)
            if key in self.standing:
                yield place, Outcome(dict(key=key))
            elif self.losses.get(key, 0) > 0:
                self.losses[key] -= 1
                yield place, Outcome(None, self.why, 'worker 0', 1000 + self.losses[key])
            else:
                yield place, Outcome(dict(key=key), None, 'worker 0')


def tasks(names):
    return [Task(name, ('true',), Path('candidates') / name) for name in names]


def keys(outcomes):
    return [outcome.result['key'] if outcome.result else None for outcome in outcomes]


def test_outcomes_come_in_the_order_of_the_tasks():
    workers = Scripted(order=lambda places: reversed(places))
    assert keys(run_in_order(workers, tasks('abcd'))) == list('abcd')
    assert workers.runs == list('dcba')


def test_an_outcome_is_given_before_later_tasks_have_run():
    workers = Scripted(order=lambda places: [1, 0, 2])
    outcomes = run_in_order(workers, tasks('abc'))
    assert next(outcomes).result['key'] == 'a' and workers.runs == ['b', 'a']


def test_a_lost_task_is_tried_again_after_the_others():
    lines = []
    workers = Scripted(dict(b=2))
    assert keys(run_in_order(workers, tasks('abc'), retries=2, log=lines.append)) == list('abc')
    assert workers.runs == list('abcbb')
    assert lines == [f'Lost at attempt {i} of 3: 1 of 3 tasks, such as b ({KILLED}).' for i in (1, 2)]


def test_what_is_lost_each_time_has_failed_if_others_have_finished_since():
    a, b, c = run_in_order(Scripted(dict(b=3)), tasks('abc'), retries=2)
    assert a.result and c.result and b.result is None
    assert b.lost == 'killed 3 times by signal 9 (SIGKILL); memory?' and b.memory == 1002 and b.worker == 'worker 0'


def test_one_that_is_lost_each_time_but_not_by_a_signal_may_not_lack_memory():
    b, _ = run_in_order(Scripted(dict(b=1), why='exit 1 without a result; see b/log.txt'), tasks('bc'), retries=0)
    assert b.lost == 'lost once: exit 1 without a result; see b/log.txt'


def test_one_that_others_have_finished_before_says_nothing_of_the_workers():
    outcomes = run_in_order(Scripted(dict(c=3)), tasks('abc'), resume='python tools/search.py x.py')
    assert [next(outcomes).result['key'], next(outcomes).result['key']] == ['a', 'b']
    with pytest.raises(WorkersBroken) as caught:
        next(outcomes)
    assert isinstance(caught.value, DetNASError)
    assert str(caught.value).startswith('c was killed 3 times by signal 9 (SIGKILL), and no other one has finished')
    assert 'See candidates/c/log.txt' in str(caught.value)
    assert str(caught.value).endswith('To resume and try it again: python tools/search.py x.py')


def test_the_last_one_missing_is_given_up_if_the_user_says_so():
    c = list(run_in_order(Scripted(dict(c=3)), tasks('abc'), fail_lost=True))[2]
    assert c.result is None and c.lost == 'killed 3 times by signal 9 (SIGKILL); memory?'
    way_out = 'To record it as failed and resume: search.py --fail-lost; to resume and try it again: search.py$'
    with pytest.raises(WorkersBroken, match=way_out):
        list(run_in_order(Scripted(dict(a=3)), tasks('a'), resume='search.py', give_up='search.py --fail-lost'))


def test_a_result_that_stood_already_says_nothing_of_the_workers():
    with pytest.raises(WorkersBroken, match='^a was killed'):
        list(run_in_order(Scripted(dict(a=3), standing='b'), tasks('ab')))


def test_if_all_are_lost_each_time_the_workers_are_broken():
    workers = Scripted(dict.fromkeys('abc', 9))
    with pytest.raises(WorkersBroken):
        next(run_in_order(workers, tasks('abc'), retries=1))
    assert workers.runs == list('abcabc')


def test_one_that_finishes_at_a_later_try_proves_the_workers_sound():
    a, b = run_in_order(Scripted(dict(a=2, b=1)), tasks('ab'), retries=1)
    assert a.result is None and a.lost and b.result
