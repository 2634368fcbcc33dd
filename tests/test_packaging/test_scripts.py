"""Shell scripts: their errors, and the commands that they start."""

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.name for path in (ROOT / 'tools').glob('*.sh') if not path.name.startswith('_'))
LAUNCHERS = [name for name in SCRIPTS if name.startswith(('dist_', 'slurm_'))]


def bash(script, *arguments, **environment):
    return subprocess.run(
        ['bash', str(ROOT / 'tools' / script), *arguments],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def recorder(tmp_path, monkeypatch):
    """A program that prints its arguments, to stand for python and srun, in a folder with a config."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'c.py').touch()
    path = tmp_path / 'srun'
    path.write_text('#!/bin/sh\n[ "$1" = -c ] && { echo 4321; exit; }\nfor word; do echo "$word"; done\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize('script', SCRIPTS)
def test_help(script):
    run = bash(script, '--help')
    assert run.returncode == 0, run.stderr
    assert f'tools/{script}' in run.stdout


@pytest.mark.parametrize('script', LAUNCHERS)
def test_too_few_arguments(script):
    """Those that are named are those that the usage has without brackets."""
    run = bash(script, 'one')
    assert run.returncode != 0
    usage = re.search(rf'tools/{script} (.*)', run.stderr)[1]
    *others, last = re.sub(r'\[[^]]*\]', '', usage).split()
    assert f'error: {", ".join(others)} and {last} are required; got 1 arguments' in run.stderr


@pytest.mark.parametrize(
    ('script', 'arguments', 'started'),
    [
        ('dist_train.sh', ['c.py', '2', '--amp'], ['train.py', 'c.py', '--amp']),
        ('dist_test.sh', ['c.py', 'w.pth', '2', '--out', 'x'], ['test.py', 'c.py', 'w.pth', '--out', 'x']),
        ('dist_search.sh', ['c.py', 'w.pth', '2', '--seed', '1'], ['search.py', 'c.py', 'w.pth', '--seed', '1']),
        ('dist_search.sh', ['c.py', '2', '--seed', '1'], ['search.py', 'c.py', '--seed', '1']),
    ],
)
def test_dist(recorder, script, arguments, started):
    run = bash(script, *arguments, PYTHON=str(recorder))
    assert run.returncode == 0, run.stderr
    words = run.stdout.split()
    assert words[:2] == ['-m', 'torch.distributed.run']
    assert {'--nproc_per_node=2', '--nnodes=1', '--node_rank=0', '--master_port=4321'} <= set(words)
    assert words[-len(started) - 2 :] == [str(ROOT / 'tools' / started[0]), *started[1:], '--launcher', 'pytorch']


def test_dist_on_several_machines(recorder):
    machines = {'NNODES': '2', 'NODE_RANK': '1', 'MASTER_ADDR': 'first', 'PORT': '1234'}
    words = bash('dist_train.sh', 'c.py', '8', PYTHON=str(recorder), **machines).stdout.split()
    assert {'--nnodes=2', '--node_rank=1', '--master_addr=first', '--master_port=1234'} <= set(words)


@pytest.mark.parametrize('number', ['w.pth', '0', '10000', '2000000000000000000000'])
def test_dist_names_a_wrong_number_of_processes(recorder, number):
    run = bash('dist_train.sh', 'c.py', number, PYTHON=str(recorder))
    assert run.returncode != 0 and not run.stdout
    assert f"NPROC must be a whole number from 1 to 9999; got '{number}'" in run.stderr


@pytest.mark.parametrize('script', LAUNCHERS)
def test_config_that_is_not_there(recorder, script):
    first = ['part', 'job'] if script.startswith('slurm') else []
    last = ['2'] if script == 'dist_train.sh' else ['out' if first and 'train' in script else 'w.pth', '2']
    path = f'{recorder.parent}:{os.environ["PATH"]}'
    run = bash(script, *first, 'nosuch.py', *last, PATH=path, PYTHON=str(recorder))
    assert run.returncode != 0 and not run.stdout
    assert run.stderr.startswith("error: there is no config 'nosuch.py'.") and run.stderr.count('\n') == 1


def test_dist_names_a_python_that_is_not_there(recorder):
    run = bash('dist_train.sh', 'c.py', '2', PYTHON='/nosuch')
    assert run.returncode != 0
    assert run.stderr.startswith("error: there is no Python at '/nosuch'. Set PYTHON") and run.stderr.count('\n') == 1


@pytest.mark.parametrize(
    ('script', 'arguments', 'started'),
    [
        ('slurm_train.sh', ['part', 'job', 'c.py', 'out', '--amp'], ['train.py', 'c.py', '--work-dir', 'out', '--amp']),
        ('slurm_test.sh', ['part', 'job', 'c.py', 'w.pth'], ['test.py', 'c.py', 'w.pth']),
        (
            'slurm_search.sh',
            ['part', 'job', 'c.py', 'w.pth', 'out'],
            ['search.py', 'c.py', 'w.pth', '--work-dir', 'out'],
        ),
        ('slurm_search.sh', ['part', 'job', 'c.py', 'out'], ['search.py', 'c.py', '--work-dir', 'out']),
        (
            'slurm_search.sh',
            ['part', 'job', 'c.py', 'out', '--seed', '1'],
            ['search.py', 'c.py', '--work-dir', 'out', '--seed', '1'],
        ),
    ],
)
def test_slurm(recorder, script, arguments, started):
    path = f'{recorder.parent}:{os.environ["PATH"]}'
    run = bash(script, *arguments, PATH=path, PYTHON='python', GPUS='4', SRUN_ARGS='--quotatype=auto --async')
    assert run.returncode == 0, run.stderr
    words = run.stdout.split()
    assert words[:3] == ['-p', 'part', '--job-name=job']
    assert {'--gres=gpu:4', '--ntasks=4', '--ntasks-per-node=4', '--quotatype=auto', '--async'} <= set(words)
    assert words[-len(started) - 2 :] == [str(ROOT / 'tools' / started[0]), *started[1:], '--launcher', 'slurm']


def test_slurm_without_a_gpu_is_one_process(recorder):
    path = f'{recorder.parent}:{os.environ["PATH"]}'
    run = bash('slurm_search.sh', 'part', 'job', 'c.py', 'out', PATH=path, PYTHON='python', GPUS='0')
    assert run.returncode == 0, run.stderr
    words = run.stdout.split()
    assert '--ntasks=1' in words and not [word for word in words if 'gres' in word or 'launcher' in word]
    assert words[-4:] == [str(ROOT / 'tools' / 'search.py'), 'c.py', '--work-dir', 'out']


class TestSetUp:
    def test_unknown_family(self):
        run = bash('setup_env.sh', '--family', 'mmlab')
        assert run.returncode != 0
        assert "unknown family 'mmlab'. Allowed: onedl, openmmlab." in run.stderr

    def test_without_a_fit_python(self, tmp_path):
        run = bash('setup_env.sh', PYTHON='/bin/false', DETNAS_VENV=str(tmp_path / 'venv'))
        assert run.returncode != 0
        assert 'no Python from 3.11 to 3.13 among: /bin/false' in run.stderr

    def test_folder_that_is_no_environment(self, tmp_path):
        (tmp_path / 'mine').write_text('x')
        run = bash('setup_env.sh', DETNAS_VENV=str(tmp_path))
        assert run.returncode != 0
        assert 'is no virtual environment' in run.stderr
        assert (tmp_path / 'mine').exists()

    def test_environment_of_the_other_family(self, tmp_path):
        (tmp_path / 'pyvenv.cfg').touch()
        (tmp_path / '.detnas_mm-setup').write_text('openmmlab /somewhere\n')
        run = bash('setup_env.sh', DETNAS_VENV=str(tmp_path))
        assert run.returncode != 0
        assert 'contains the openmmlab family' in run.stderr


def test_run_tests_refuses_what_it_does_not_know():
    run = bash('run_tests.sh', '--quick')
    assert run.returncode != 0
    assert "unknown argument '--quick'" in run.stderr
