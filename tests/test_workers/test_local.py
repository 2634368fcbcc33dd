"""Slots of this machine: GPUs and threads of commands, what is refused, what is not run."""

import os
import re
import sys
from pathlib import Path

import pytest

from detnas_mm.errors import DetNASError
from detnas_mm.registry import WORKERS, build_from
from detnas_mm.workers import LocalWorkers, Task, local, read_result, write_result

PRINT = 'import os; print(os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ["OMP_NUM_THREADS"], os.getcwd())'


def python(folder, code, key='a'):
    folder.mkdir(parents=True, exist_ok=True)
    return Task(key, (sys.executable, '-c', code), folder)


def visible(monkeypatch, text):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', text)


def test_a_config_names_them():
    workers = build_from(WORKERS, dict(type='detnas_mm.LocalWorkers', count=3, threads=2))
    assert (workers.count, workers.threads, workers.spec()) == (3, 2, dict(threads=2))
    assert build_from(WORKERS, dict(type='LocalWorkers')).spec() == dict(threads=1)


@pytest.mark.parametrize(
    ('setting', 'said'),
    [
        (dict(count=0), 'count must be a whole number of at least 1; got 0'),
        (dict(threads=1.5), 'threads must be a whole number of at least 1; got 1.5'),
        (dict(gpus=2), r'gpus must be a list of GPUs, such as \[0, 1\], or \[\] for none; got 2'),
        (dict(gpus='01'), "gpus must be a list .*; got '01'"),
        (dict(slots=2), "LocalWorkers has no argument 'slots'"),
    ],
)
def test_settings_that_cannot_be_are_refused(setting, said):
    with pytest.raises(DetNASError, match=said):
        build_from(WORKERS, dict(type='LocalWorkers', **setting))


@pytest.mark.parametrize(
    ('there', 'setting', 'said'),
    [
        ('0,1', dict(count=3), '3 workers need a GPU each, and there are 2: 0, 1. Set count to at most 2'),
        ('0,1', dict(count=2, gpus=[0]), '2 workers need a GPU each, and there are 1: 0.'),
        ('0,1', dict(gpus=[2]), 'gpus: there is no GPU 2; this process sees: 0, 1.'),
        ('', dict(gpus=[0]), 'gpus: there is no GPU 0; this process sees: none.'),
    ],
)
def test_more_gpus_than_there_are_is_refused_before_anything_begins(monkeypatch, tmp_path, there, setting, said):
    visible(monkeypatch, there)
    with pytest.raises(DetNASError, match=re.escape(said)):
        LocalWorkers(**setting).check(tmp_path)


@pytest.mark.parametrize(
    ('there', 'setting'),
    [
        ('0,1', dict(count=2)),
        ('0,1', dict(count=3, gpus=[0, 0, 1])),
        ('0,1', dict(count=9, gpus=[])),
        ('', dict(count=9)),
        ('GPU-8f2a', dict(count=1, gpus=['GPU-8f2a'])),
    ],
)
def test_gpus_that_are_there_are_accepted(monkeypatch, tmp_path, there, setting):
    visible(monkeypatch, there)
    LocalWorkers(**setting).check(tmp_path)


def test_gpus_are_counted_by_nvidia_smi_where_nothing_is_set(monkeypatch, tmp_path):
    tool = tmp_path / 'nvidia-smi'
    tool.write_text('#!/bin/sh\necho "GPU 0: A (UUID: GPU-1)"\necho "  MIG 1g: x"\necho "GPU 1: A (UUID: GPU-2)"\n')
    tool.chmod(0o755)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    assert local._visible_gpus() == ['0', '1']
    tool.write_text('#!/bin/sh\necho "NVIDIA-SMI has failed"\nexit 9\n')
    assert local._visible_gpus() == []


@pytest.mark.parametrize(
    ('there', 'gpus', 'seen'),
    [('4,7', None, {'4', '7'}), ('4,7', ['7', '7'], {'7'}), ('4,7', [], {''}), ('', None, {''})],
)
def test_each_worker_has_its_gpu_and_its_threads(monkeypatch, tmp_path, there, gpus, seen):
    visible(monkeypatch, there)
    hello = tmp_path / 'hello'  # both commands wait for the other one, so that they run at the same time
    code = f'import os, time; open("{hello}" + str(os.getpid()), "w"); import glob\n{PRINT}\n'
    code += f'while len(glob.glob("{hello}*")) < 2: time.sleep(.01)'
    tasks = [python(tmp_path / name, code) for name in 'ab']
    assert len(list(LocalWorkers(2, threads=3, gpus=gpus).run(tasks))) == 2
    lines = [task.log.read_text().split() for task in tasks]
    assert {line[0] if len(line) == 3 else '' for line in lines} == seen
    assert all(line[-2:] == ['3', str(Path.cwd())] for line in lines)


def test_a_result_that_stands_is_not_run_for_again(tmp_path):
    task = python(tmp_path / 'a', 'raise SystemExit(1)')
    write_result(task.folder, 'a', dict(mAP=0.5))
    ((place, outcome),) = LocalWorkers().run([task])
    assert place == 0 and outcome.result == dict(mAP=0.5, key='a') and outcome.worker == '' and not task.log.exists()


def test_a_result_counts_however_the_command_ends(tmp_path):
    code = 'import os, sys; from detnas_mm.workers import write_result; write_result(sys.argv[1], "a", dict(x=1))\n'
    task = python(tmp_path / 'a', code + 'os.kill(os.getpid(), 9)')
    task = Task('a', (*task.command, str(task.folder)), task.folder)
    ((_, outcome),) = LocalWorkers().run([task])
    assert outcome.result == dict(x=1, key='a') == read_result(task.folder, 'a')
    assert outcome.lost is None and outcome.worker == 'worker 0' and 1e6 < outcome.memory < 1e9


@pytest.mark.parametrize(
    ('command', 'said'),
    [
        (('false',), r'exit 1 without a result; see .*a/log\.txt'),
        (('sh', '-c', 'kill -TERM $$'), r'killed by signal 15 \(SIGTERM\)'),
        (('sh', '-c', 'kill -KILL $$'), r'killed by signal 9 \(SIGKILL\)'),
        (('sh', '-c', 'kill -KILL 0'), 'killed with all its processes'),
        (('no-such-program', 'x'), 'cannot be started: no-such-program: No such file or directory'),
    ],
)
def test_why_a_task_is_lost(tmp_path, command, said):
    (tmp_path / 'a').mkdir()
    ((_, outcome),) = LocalWorkers().run([Task('a', command, tmp_path / 'a')])
    assert outcome.result is None and re.fullmatch(said, outcome.lost)


def test_what_commands_print_is_kept_of_all_starts(tmp_path):
    task = python(tmp_path / 'a', 'import sys; print("out"); print("err", file=sys.stderr)')
    for _ in range(2):
        assert [outcome.result for _, outcome in LocalWorkers().run([task])] == [None]
    assert sorted(task.log.read_text().split()) == ['err', 'err', 'out', 'out']


def test_tasks_are_started_in_order_and_never_more_than_count_at_a_time(tmp_path):
    note = f'import time; f = open({str(tmp_path / "notes")!r}, "a"); f.write("{{0}} "); f.flush(); time.sleep(.1);'
    note += 'f.write("end ")'
    tasks = [python(tmp_path / str(i), note.format(i)) for i in range(5)]
    assert [place for place, _ in LocalWorkers(1).run(tasks)] == [0, 1, 2, 3, 4]
    assert (tmp_path / 'notes').read_text().split() == ' end '.join('01234').split() + ['end']


def test_the_limit_of_time_is_the_users():
    assert LocalWorkers().time_limit(None) is None and LocalWorkers().time_limit(60) == 60
