"""Workers on slurm: settings, and what is made of squeue's answers; no slurm is needed."""

import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from detnas_mm.errors import DetNASError
from detnas_mm.registry import WORKERS, build_from
from detnas_mm.workers import SlurmWorkers, Task, slurm, write_result
from detnas_mm.workers.slurm_queue import Queue

from .processes import toy_task


def test_a_config_names_them():
    workers = build_from(WORKERS, dict(type='SlurmWorkers', partition='gpu', timeout=240, count=8, threads=4, gpus=1))
    assert (workers.count, workers.cpus, workers.gpus, workers.spec()) == (8, 4, 1, dict(threads=4))


@pytest.mark.parametrize(
    ('setting', 'said'),
    [
        (dict(), 'SlurmWorkers need timeout, the minutes after which slurm kills a candidate'),
        (dict(timeout='1:00'), "timeout must be a whole number of at least 1; got '1:00'"),
        (dict(timeout=9, gpus=-1), 'gpus must be a whole number of at least 0; got -1'),
        (dict(timeout=9, threads=4, cpus=2), 'cpus must be a whole number of at least 4; got 2'),
        (dict(timeout=9, account='x'), "SlurmWorkers has no argument 'account'; it takes partition, timeout"),
    ],
)
def test_settings_that_cannot_be_are_refused(setting, said):
    with pytest.raises(DetNASError, match=re.escape(said)):
        build_from(WORKERS, dict(type='SlurmWorkers', partition='gpu', **setting))


def test_a_command_ends_before_slurm_ends_it(tmp_path):
    assert [SlurmWorkers('gpu', timeout).longest for timeout in (1, 10, 600)] == [48, 480, 600 * 60 - 300]
    workers = SlurmWorkers('gpu', 10)
    assert workers.time_limit(None) == 480 and workers.time_limit(60) == 60
    with pytest.raises(DetNASError, match='time_limit is 500 s, but these workers kill a command .* longer than 480 s'):
        workers.time_limit(500)
    with pytest.raises(DetNASError, match='time_limit is 481 s'):
        next(workers.run([toy_task(tmp_path, 'a', time_limit=481)]))


def test_a_machine_without_slurm_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(DetNASError, match="no sbatch, squeue, scancel, sinfo: .* dict.type='LocalWorkers'"):
        SlurmWorkers('gpu', 10).check(tmp_path)


def program(folder, name, script):
    path = folder / name
    path.write_text(f'#!/bin/sh\n{script}\n')
    path.chmod(0o755)


def test_submitit_that_is_not_installed_is_named(monkeypatch, tmp_path):
    for name in ('sbatch', 'squeue', 'scancel', 'sinfo'):
        program(tmp_path, name, 'exit 0')
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    monkeypatch.setitem(sys.modules, 'submitit', None)
    monkeypatch.setattr(slurm.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(DetNASError, match=r"need submitit; install it by: pip install 'submitit>="):
        SlurmWorkers('gpu', 10).check(tmp_path)


@pytest.mark.parametrize(
    ('script', 'known'),
    [
        ('printf "7_0|mine|n1\\n7_2|mine|\\n8|another|n2\\n"', {'7_0': 'n1', '7_2': ''}),
        ('true', {}),
        ('echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1', {}),
        ('echo "slurm_load_jobs error: Socket timed out on send/recv operation" >&2; exit 1', None),
    ],
)
def test_what_squeue_knows(monkeypatch, tmp_path, script, known):
    program(tmp_path, 'squeue', f'[ -z "$SQUEUE_STATES" ] || exit 3; echo "$*" >>{tmp_path}/asked; {script}')
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv('SQUEUE_STATES', 'RUNNING')  # would hide what waits
    assert Queue('mine').ask({'7_0': 0, '7_1': 1, '7_2': 2, '8': 3}) == known
    assert (tmp_path / 'asked').read_text().split()[-1] == '--jobs=7,8'  # the whole array, in one question


def test_squeue_that_gives_no_answer_is_said_once(monkeypatch, tmp_path, capsys):
    program(tmp_path, 'squeue', 'echo "error: no route" >&2; exit 1')
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    queue = Queue('mine')
    assert [queue.ask({'7': 0}) for _ in range(6)] == [None] * 6
    assert capsys.readouterr().err == 'squeue fails (error: no route) and is called again.\n'


@pytest.mark.parametrize(
    ('limit', 'minutes'),
    [('infinite', float('inf')), ('n/a', float('inf')), ('5:00', 5), ('1:30:00', 90), ('2-00:00:30', 2880.5)],
)
def test_limits_as_slurm_writes_them(limit, minutes):
    assert slurm._minutes(limit) == minutes


def test_jobs_of_an_earlier_process_are_cancelled_but_for_those_of_the_same_tasks(monkeypatch, tmp_path, capsys):
    workers = SlurmWorkers('gpu', 10)
    task = Task('now', ('true',), tmp_path / 'now')
    task.folder.mkdir()
    (task.folder / 'slurm.json').write_text(json.dumps(dict(job='7', key='now')))
    name = slurm._name(tmp_path / 'slurm')
    program(tmp_path, 'squeue', f'echo "$*" >>{tmp_path}/asked; printf "7|{name}|n1\\n"; '
            f'[ -e {tmp_path}/cancelled ] || printf "8|{name}|n2\\n9_0|{name}|\\n"')  # fmt: skip
    program(tmp_path, 'scancel', f'echo "$*" >>{tmp_path}/cancelled')
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(slurm, 'ASK', 0.01)
    workers.end_others([task])
    assert (tmp_path / 'cancelled').read_text() == '8 9_0\n'
    assert len((tmp_path / 'asked').read_text().splitlines()) == 2, 'it waits until they are gone'
    assert f'--name={name}' in (tmp_path / 'asked').read_text()
    assert capsys.readouterr().out == 'Cancelling jobs that an earlier start has left: 8, 9_0\n'


def test_jobs_that_no_folder_names_are_cancelled_before_others_are_submitted(monkeypatch, tmp_path, capsys):
    """Left by a driver that was killed within sbatch, and by an sbatch whose answer was lost."""
    task, listed, done = toy_task(tmp_path, 'a'), tmp_path / 'listed', tmp_path / 'done'
    name = slurm._name(tmp_path / 'slurm')
    listed.write_text(f'7_0|{name}|n1\n8_0|{name}|\n')
    (tmp_path / 'next').mkdir()  # of another generation or rung, for which this process will wait
    (tmp_path / 'next' / 'slurm.json').write_text(json.dumps(dict(job='8_0', key='next')))
    program(tmp_path, 'squeue', f'cat {listed}')
    program(tmp_path, 'scancel', f'echo scancel $* >>{done}; for job; do sed -i "/^$job|/d" {listed}; done')
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(slurm, 'ASK', 0.01)

    class Executor:
        update_parameters = __init__ = lambda self, *args, **settings: None
        calls = 0

        def submit_array(self, functions):
            self.calls += 1
            with done.open('a') as file:
                file.write('sbatch\n')
            if self.calls == 1:
                listed.write_text(listed.read_text() + f'9|{name}|\n')
                raise OSError('Socket timed out')
            write_result(task.folder, task.key, dict(total=1))
            return [SimpleNamespace(job_id='10')]

    errors = SimpleNamespace(FailedJobError=OSError, FailedSubmissionError=OSError)
    helpers = SimpleNamespace(CommandFunction=lambda *args, **settings: None)
    made = SimpleNamespace(SlurmExecutor=Executor, helpers=helpers, core=SimpleNamespace(utils=errors))
    monkeypatch.setitem(sys.modules, 'submitit', made)
    ((_, outcome),) = SlurmWorkers('gpu', 10).run([task])
    assert outcome.result['total'] == 1 and json.loads((task.folder / 'slurm.json').read_text())['job'] == '10'
    assert done.read_text().splitlines() == ['scancel 7_0', 'sbatch', 'scancel 9', 'sbatch']
    assert listed.read_text() == f'8_0|{name}|\n'
    assert capsys.readouterr().out.count('Cancelling jobs that an earlier start has left: ') == 2


def test_squeue_is_not_called_more_often_while_jobs_end(monkeypatch, tmp_path):
    waits = iter([None] * 3)
    name = slurm._name(tmp_path / 'slurm')
    program(tmp_path, 'squeue', f'[ -e {tmp_path}/ended ] || printf "7|{name}|n1\\n"')
    program(tmp_path, 'scancel', 'exit 0')
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if next(waits, 'ended'):
            (tmp_path / 'ended').touch()

    monkeypatch.setattr(slurm, 'time', SimpleNamespace(sleep=sleep))  # subprocess sleeps, too
    SlurmWorkers('gpu', 10).end_others([toy_task(tmp_path, 'a')])
    assert slept == [slurm.ASK] * 4


def test_jobs_of_other_settings_are_cancelled_and_not_adopted(monkeypatch, tmp_path):
    program(tmp_path, 'squeue', 'printf "7_0|mine|n1\\n7_1|mine|\\n"')
    program(tmp_path, 'scancel', f'echo "$*" >>{tmp_path}/cancelled')
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    tasks = [Task(key, ('true',), tmp_path / key) for key in ('now', 'new')]
    for task, job in zip(tasks, (dict(job='7_0', key='now'), dict(job='7_1', key='old'))):
        task.folder.mkdir()
        (task.folder / 'slurm.json').write_text(json.dumps(job))
    assert SlurmWorkers('gpu', 10)._adopt(Queue('mine'), tasks, [0, 1]) == {'7_0': 0}
    assert (tmp_path / 'cancelled').read_text() == '7_1\n'


@pytest.mark.parametrize(
    ('command', 'lost'),
    [
        ('kill -9 $$', 'killed by signal 9 (SIGKILL)'),
        ('echo no memory; kill -ABRT $$', 'killed by signal 6 (SIGABRT)'),
        ('exit 3', 'exit 3 without a result; see {log}'),
        ('exit 0', 'no longer in squeue, without a result; see {log}'),
        ('kill -9 $PPID', 'no longer in squeue, without a result; see {log}'),
    ],
)
def test_a_lost_job_names_the_signal_or_status_of_its_command(monkeypatch, tmp_path, command, lost):
    """As local workers do, so that rows of either suspect the memory; the log may have lines of earlier jobs."""
    task = toy_task(tmp_path, 'a')
    assert slurm._how_lost(task, '7_0').endswith(f'it has no log: check that the nodes see {task.folder}')
    task.log.write_text('a step\nexit status 137 of job 6_0\n')
    assert slurm._how_lost(task, '7_0') == f'no longer in squeue, without a result; see {task.log}'
    script = SlurmWorkers('gpu', 10)._command(Task(task.key, ('/bin/sh', '-c', command), task.folder))
    for job, variables in {'7_0': dict(SLURM_ARRAY_JOB_ID='7', SLURM_ARRAY_TASK_ID='0'), '8': {}}.items():
        subprocess.run(script, env=os.environ | dict(SLURM_JOB_ID='8') | variables)
        assert slurm._how_lost(task, job) == lost.format(log=task.log)
