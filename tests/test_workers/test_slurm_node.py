"""Workers on a real slurm of one node, without accounting: whatever ends a job, the results are the same."""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from detnas_mm.errors import DetNASError
from detnas_mm.latency.device import describe_device
from detnas_mm.workers import LocalWorkers, SlurmWorkers, Task, run_in_order, slurm
from tests import jobs
from tests.test_evaluators import training

from .processes import (
    ROOT,
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

NODE = Path(__file__).with_name('slurm_node.sh')
MISSING = [name for name in ('slurmctld', 'slurmd', 'munged', 'sbatch') if shutil.which(name) is None]
LIMIT = 48.0  # of one minute, what a command has

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f'no {", ".join(MISSING)} here: apt-get install slurm-wlm munge, as root'),
    pytest.mark.skipif(os.geteuid() != 0, reason='a slurm of its own is started by root'),
    pytest.mark.skipif(importlib.util.find_spec('submitit') is None, reason='no submitit here: pip install submitit'),
]


@pytest.fixture(scope='module', autouse=True)
def node():
    """A slurm of this machine; asked every second."""
    folder = tempfile.mkdtemp(prefix='slurm', dir='/tmp')  # a short path
    started = subprocess.run(['bash', NODE, 'start', folder], capture_output=True, text=True)
    if started.returncode:
        subprocess.run(['bash', NODE, 'stop', folder])
        pytest.skip(f'slurm does not start here: {" ".join(started.stderr.split())[-300:]}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(*started.stdout.strip().split('='))
        patch.setattr(slurm, 'ASK', 1.0)
        yield folder
    subprocess.run(['bash', NODE, 'stop', folder], check=True)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope='module', autouse=True)
def ended_by_time(node, tmp_path_factory):
    """Two tasks that run into limits while the other tests run: one into its own, the other into slurm's."""
    folder = tmp_path_factory.mktemp('limits')
    tasks = [toy_task(folder, name, time_limit=LIMIT) for name in ('keeps', 'exceeds')]
    code = 'import sys, time; from detnas_mm.workers import write_result; time.sleep(48 - 3); '
    keeps = ('python', '-c', code + 'write_result(sys.argv[1], "key of keeps", dict(status="failed"))')
    tasks[0] = Task(tasks[0].key, (*keeps, str(tasks[0].folder)), tasks[0].folder, LIMIT)
    tasks[1] = Task(tasks[1].key, ('sleep', '600'), tasks[1].folder, LIMIT)
    outcomes = {}
    thread = threading.Thread(target=lambda: outcomes.update(workers(2).run(tasks)), daemon=True)
    thread.start()
    yield lambda: (thread.join(180), outcomes)[1]
    thread.join(180)


def workers(count=1, folder=None, **settings):
    made = SlurmWorkers('main', timeout=1, count=count, **settings)
    if folder is not None:
        made.check(folder)
    return made


def toys(folder, count=3, **settings):
    return [toy_task(folder, f'c{i}', time_limit=LIMIT, **settings) for i in range(count)]


def job_of(task):
    return json.loads((task.folder / 'slurm.json').read_text())['job']


def in_background(run):
    """Runs something in a thread, which pytest does not wait for; gives a function that waits for its value."""
    values = []
    thread = threading.Thread(target=lambda: values.append(run()), daemon=True)
    thread.start()
    return lambda: (thread.join(300), values)[1][0]


def totals(outcomes):
    return [outcome.result['total'] for outcome in outcomes]


def test_results_are_those_of_local_workers(tmp_path):
    local = list(run_in_order(LocalWorkers(2, threads=2, gpus=[]), toys(tmp_path / 'local')))
    there = toys(tmp_path / 'slurm')
    remote = list(run_in_order(workers(2, tmp_path, threads=2), there))
    assert [outcome.result for outcome in remote] == [outcome.result for outcome in local]
    assert remote[0].result['seen'] == dict(OMP_NUM_THREADS='2', CUDA_VISIBLE_DEVICES='')
    assert [outcome.worker.split(', job ')[1] for outcome in remote] == [job_of(task) for task in there]
    assert len({job_of(task).partition('_')[0] for task in there}) == 1  # one array
    assert [outcome.worker for outcome in run_in_order(workers(2, tmp_path), there)] == [''] * 3  # stand already
    assert 'AccountingStorageType   = accounting_storage/none' in said('scontrol', 'show', 'config')


def said(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.mark.parametrize('victim', ['runner', 'command', 'job'])
def test_a_job_that_is_killed_is_lost_and_run_again(tmp_path, victim):
    tasks = toys(tmp_path, seconds=1)
    lines = []
    result = in_background(lambda: list(run_in_order(workers(3, tmp_path), tasks, log=lines.append)))
    wait_for(lambda: len(steps(tasks[0])) == 2)
    job = job_of(tasks[0])
    if victim == 'job':
        said('scancel', job)
    else:
        runners = [pid for pid in of_folder(tmp_path, 'submitit.core._submit') if job in environment(pid)]
        commands = [steps(tasks[0])[0][0]]  # without the shell that waits for it
        for pid in runners if victim == 'runner' else commands:
            os.kill(pid, signal.SIGKILL)
    outcomes = result()
    assert totals(outcomes) == totals(run_in_order(LocalWorkers(3), toys(tmp_path / 'local')))
    assert job_of(tasks[0]) != job and one_at_a_time(tasks[0]) and len({pid for pid, _ in steps(tasks[0])}) == 2
    unknown = f'no longer in squeue, without a result; see {tasks[0].log}'
    lost = 'killed by signal 9 (SIGKILL)' if victim == 'command' else unknown
    assert lines == [f'Lost at attempt 1 of 3: 1 of 3 tasks, such as c0 ({lost}).']
    assert not survivors(tmp_path)


def environment(pid):
    """The slurm job of a process, as ``12`` or ``12_0``."""
    pairs = Path(f'/proc/{pid}/environ').read_bytes().decode().split('\0')
    found = dict(pair.split('=', 1) for pair in pairs if '=' in pair)
    array, index = found.get('SLURM_ARRAY_JOB_ID'), found.get('SLURM_ARRAY_TASK_ID')
    return {f'{array}_{index}' if array else found['SLURM_JOB_ID']}


def test_a_job_that_is_requeued_goes_on(tmp_path):
    tasks = toys(tmp_path, 1, steps=5, seconds=1)
    result = in_background(lambda: list(run_in_order(workers(1, tmp_path), tasks)))
    wait_for(lambda: len(steps(tasks[0])) == 2)
    job = job_of(tasks[0])
    said('scontrol', 'requeue', job)
    wait_for(lambda: not of_folder(tasks[0].folder, TOY))
    assert said('squeue', '--noheader', '--format=%T', '--jobs', job).strip() in ('PENDING', 'COMPLETING')
    assert totals(result()) == totals(run_in_order(LocalWorkers(), toys(tmp_path / 'local', 1, steps=5)))
    assert job_of(tasks[0]) == job
    first, *_, last = steps(tasks[0])
    assert first[0] != last[0] and [s for p, s in steps(tasks[0]) if p == last[0]][0] > 0  # resumed, not restarted


def test_a_second_driver_takes_over_the_jobs_of_a_killed_one_or_ends_them(tmp_path):
    settings = dict(type='SlurmWorkers', partition='main', timeout=1, count=3, gpus=0, seconds=2)
    tasks = toys(tmp_path)
    driver = start_driver(tmp_path, **settings)
    wait_for(lambda: all((task.folder / 'slurm.json').exists() for task in tasks))
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    jobs = [job_of(task) for task in tasks]
    workers(3, tmp_path).end_others(tasks[:2])
    assert not of_folder(tasks[2].folder, TOY)
    assert start_driver(tmp_path, **settings).wait() == 0
    assert [row[0]['total'] for row in rows(tmp_path)] == totals(run_in_order(LocalWorkers(3), toys(tmp_path / 'l')))
    assert [job_of(task) for task in tasks[:2]] == jobs[:2] and job_of(tasks[2]) != jobs[2]
    assert all(one_at_a_time(task) for task in tasks)


def test_an_error_in_the_driver_cancels_its_jobs(tmp_path):
    tasks = [toy_task(tmp_path, 'quick', 1, time_limit=LIMIT), toy_task(tmp_path, 'long', 99, 1, time_limit=LIMIT)]
    outcomes = workers(2, tmp_path).run(tasks)
    place, outcome = next(outcomes)
    assert place == 0 and outcome.result
    wait_for(lambda: steps(tasks[1]))
    outcomes.close()
    assert not survivors(tmp_path, 10) and not (tasks[1].folder / 'slurm.json').exists()


def fails_at_first(monkeypatch, folder, command, times):
    """Has a command of slurm fail for some calls; the file that has a line for each call."""
    real, calls = shutil.which(command), folder / 'calls'
    (folder / 'bin').mkdir()
    fake = folder / 'bin' / command
    fake.write_text(
        f'#!/bin/sh\necho call >>{calls}\n'
        f'[ $(wc -l <{calls}) -gt {times} ] || {{ echo "error: Unable to contact slurm controller" >&2; exit 1; }}\n'
        f'exec {real} "$@"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv('PATH', str(folder / 'bin'), prepend=os.pathsep)
    return calls


@pytest.mark.parametrize('times', [2, 3])
def test_sbatch_may_fail_twice(tmp_path, monkeypatch, times):
    made = workers(1, tmp_path)
    fails_at_first(monkeypatch, tmp_path, 'sbatch', times)
    outcomes = made.run(toys(tmp_path, 1, steps=1))
    if times == 2:
        assert [outcome.lost for _, outcome in outcomes] == [None]
    else:
        with pytest.raises(DetNASError, match='slurm refuses the jobs: error: Unable to contact slurm controller'):
            next(outcomes)


def test_squeue_may_fail_for_a_while(tmp_path, monkeypatch, capfd):
    calls = fails_at_first(monkeypatch, tmp_path, 'squeue', 8)  # those that run into limits ask, too
    tasks = toys(tmp_path, 1, steps=5, seconds=2)
    assert len(list(run_in_order(workers(1, tmp_path), tasks, retries=0))) == 1
    assert len(calls.read_text().split()) >= 8 and len({pid for pid, _ in steps(tasks[0])}) == 1
    assert capfd.readouterr().err.count('squeue fails') in (1, 2)  # once a driver


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        (dict(partition='nowhere'), 'invalid partition specified: nowhere.*Its partitions are: main brief'),
        (dict(partition='brief'), 'timeout is 6 minutes, but the time limit of partition brief is 5:00'),
        (dict(gpus=1), r'slurm refuses a job with .*--gpus-per-node=1.*: .*Invalid generic resource'),
        (dict(cpus=99), r'slurm refuses a job with .*--cpus-per-task=99'),
        (dict(options=dict(no_such_option=1)), "unrecognized option '--no-such-option=1'"),
    ],
)
def test_what_the_cluster_has_not_is_refused_before_anything_begins(tmp_path, settings, said):
    with pytest.raises(DetNASError, match=said):
        SlurmWorkers(**dict(partition='main', timeout=6) | settings).check(tmp_path)


def test_a_command_that_keeps_its_limit_has_a_result_and_one_that_does_not_is_lost(ended_by_time):
    outcomes = ended_by_time()
    assert outcomes[0].result == dict(key='key of keeps', status='failed')
    assert {outcome.host for outcome in outcomes.values()} == {socket.gethostname()}
    assert outcomes[1].lost.startswith('no longer in squeue, without a result; ')


def test_a_search_measures_and_trains_by_jobs(tmp_path, digits_folder):
    """Sessions ask for the device and measure a detector, and one of them is cancelled; then the detector trains."""
    folder, lines = tmp_path / 'search', []
    made = dict(type='SlurmWorkers', partition='main', timeout=5)
    cfg = training.config(folder, dict(workers=made), population=1)
    pace = dict(rounds=2, min_time=0.0, pause=0.0)
    file = tmp_path / 'latency.json'
    cfg.search.costs = dict(latency=dict(type='NetLatency', file=str(file), workers=made, pace=pace))
    result = in_background(lambda: jobs.run(cfg, lines.append))
    sessions = tmp_path / 'latency.json.sessions'
    (noted,) = wait_for(lambda: [one for one in sessions.glob('*/slurm.json') if of_folder(one.parent)])
    said('scancel', json.loads(noted.read_text())['job'])
    (row,) = result()[1]
    (machine,) = json.loads(file.read_text())['machines']
    assert row.costs == dict(latency=next(iter(machine['nets'].values()))['ms']) and row.metrics
    assert machine['device'] == describe_device('cpu', 1)
    assert (row.host, row.details) == (socket.gethostname(), dict(iterations=training.ITERATIONS))
    assert [line[:20] for line in lines].count('Lost at attempt 1 of') == 1, lines
    assert [path.name for path in sessions.iterdir()] == ['slurm'], 'finished sessions leave no folder'
    assert len(list((sessions / 'slurm').glob('*_submission.sh'))) == 3
    assert len(list((folder / 'candidates' / row.id).glob('slurm.json'))) == 1
    assert not survivors(tmp_path)


def test_a_driver_without_a_gpu_is_started_by_the_script(tmp_path):
    (tmp_path / 'c.py').touch()
    command = ['bash', ROOT / 'tools' / 'slurm_search.sh', 'main', 'name', 'c.py', 'work']
    env = os.environ | dict(GPUS='0', CPUS_PER_TASK='1', PYTHON='echo')
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ['-u', str(ROOT / 'tools' / 'search.py'), 'c.py', '--work-dir', 'work']
