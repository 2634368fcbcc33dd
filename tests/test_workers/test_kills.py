"""Worker, driver, keeper or several are killed at many points: no process survives, and results are the same."""

import contextlib
import os
import signal
import threading

import pytest

from detnas_mm.workers import LocalWorkers, hold, run_in_order, write_result

from .processes import (
    TOY,
    of_folder,
    one_at_a_time,
    rows,
    start_driver,
    steps,
    survivors,
    toy_task,
    wait_for,
)

pytestmark = pytest.mark.skipif(not os.path.isdir('/proc/self'), reason='looks for processes in /proc')


@pytest.fixture(scope='module')
def expected(tmp_path_factory):
    """Returns the rows of an undisturbed driver with one worker."""
    folder = tmp_path_factory.mktemp('undisturbed')
    assert start_driver(folder, 1).wait() == 0
    assert [row[1] for row in rows(folder)] == [None] * 3 and len({row[0]['total'] for row in rows(folder)}) == 3
    assert not survivors(folder)
    return rows(folder)


@pytest.mark.slow
@pytest.mark.parametrize('count', [2, 4])
def test_the_number_of_workers_changes_no_result(expected, tmp_path, count):
    assert start_driver(tmp_path, count).wait() == 0
    assert rows(tmp_path) == expected


#: When to kill: whether a task is that far.
POINTS = {
    'it has begun': lambda task: (task.folder / 'lock').exists(),
    'a step is done': lambda task: (task.folder / 'place.json').exists(),
    'the last step runs': lambda task: len(steps(task)) == 3,
    'the result stands': lambda task: (task.folder / 'result.json').exists(),
}


def kill(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # had ended
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize('whom', ['worker', 'driver', 'both'])
@pytest.mark.parametrize(('index', 'when'), list(zip([0, 1, 2, 0], POINTS)), ids=list(POINTS))
def test_whoever_is_killed_the_rest_ends_and_the_results_are_the_same(expected, tmp_path, whom, index, when):
    task = toy_task(tmp_path, f'c{index}')
    driver = start_driver(tmp_path, 2)
    wait_for(lambda: POINTS[when](task))
    helpers = of_folder(task.folder, 'helper')
    workers = [pid for pid in of_folder(task.folder, TOY) if pid not in of_folder(task.folder, 'keeper.py')]
    kill([*(workers if whom != 'driver' else []), *([driver.pid] if whom != 'worker' else [])])
    if whom == 'worker':
        wait_for(lambda: not set(helpers) & set(of_folder(task.folder)), 5)
    else:
        driver.wait()
        assert not survivors(tmp_path)
        driver = start_driver(tmp_path, 2)
    assert driver.wait() == 0
    assert rows(tmp_path) == expected
    assert not survivors(tmp_path)
    assert all(one_at_a_time(toy_task(tmp_path, f'c{i}')) for i in range(3))


@pytest.mark.slow
@pytest.mark.parametrize('with_driver', [False, True])
def test_a_killed_keeper_takes_its_command_with_it(expected, tmp_path, with_driver):
    task = toy_task(tmp_path, 'c0')
    driver = start_driver(tmp_path, 1)
    wait_for(lambda: steps(task))
    workers = set(of_folder(task.folder, TOY))
    kill([*of_folder(task.folder, 'keeper.py'), *([driver.pid] if with_driver else [])])
    wait_for(lambda: not workers & set(of_folder(task.folder, TOY)), 5)
    if with_driver:
        kill(of_folder(tmp_path))  # nobody is left who knows the helper
        driver.wait()
        driver = start_driver(tmp_path, 1)
    assert driver.wait() == 0
    assert rows(tmp_path) == expected
    assert not survivors(tmp_path) and one_at_a_time(task)


def test_a_driver_waits_for_whom_it_finds_at_work(tmp_path):
    task = toy_task(tmp_path, 'c0')
    outcomes = []
    with hold(task.folder):  # as a command does that another driver has left running
        thread = threading.Thread(target=lambda: outcomes.extend(run_in_order(LocalWorkers(), [task])))
        thread.start()
        wait_for(lambda: task.log.exists() and f'waiting for process {os.getpid()} on ' in task.log.read_text())
        write_result(task.folder, task.key, dict(total=0.5))
    thread.join(60)
    assert outcomes[0].result == dict(total=0.5, key=task.key) and not steps(task)


@pytest.mark.slow
def test_two_drivers_of_one_folder_make_each_step_once(expected, tmp_path):
    drivers = [start_driver(tmp_path, 2), start_driver(tmp_path, 2)]
    assert [driver.wait() for driver in drivers] == [0, 0]
    for index in range(3):
        assert [step for _, step in steps(toy_task(tmp_path, f'c{index}'))] == [0, 1, 2]
    assert not survivors(tmp_path)


def test_an_error_in_the_driver_ends_all_commands(tmp_path):
    tasks = [toy_task(tmp_path, 'quick', steps=1), toy_task(tmp_path, 'long', steps=600, seconds=1)]
    outcomes = LocalWorkers(2).run(tasks)
    place, outcome = next(outcomes)
    assert place == 0 and outcome.result
    wait_for(lambda: steps(tasks[1]))
    outcomes.close()
    assert not survivors(tmp_path)
    with hold(tasks[1].folder):  # a process that is being ended leaves its files last
        assert steps(tasks[1])
