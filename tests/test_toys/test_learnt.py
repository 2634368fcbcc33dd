"""A search that is a training run, from a folder outside the package; killed and resumed it gives the same result."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detnas_mm.search import read_ledger
from detnas_mm.search.record import VOLATILE

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """A folder elsewhere with the toy system and its config."""
    folder = tmp_path_factory.mktemp('project')
    for name in ('learnt.py', 'learnt_config.py'):
        shutil.copy(Path(__file__).parent / name, folder)
    return folder


def run(project, *words, die_at=None, code=0):
    path = os.pathsep.join([str(project), str(ROOT)])
    env = dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS='1') | ({} if die_at is None else dict(DIE_AT=die_at))
    done = subprocess.run([sys.executable, *words], cwd=project, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def tool(name, folder, *words):
    return str(ROOT / 'tools' / name), 'learnt_config.py', '--work-dir', str(folder), *words


def result(folder):
    """Returns rows without volatile fields, the exported files, and their weights."""
    _, records = read_ledger(folder / 'ledger.jsonl')
    rows = [{k: v for k, v in record.to_json().items() if k not in VOLATILE} for record in records]
    (best,) = json.loads((folder / 'best.json').read_text())
    state = torch.load(folder / best['checkpoint'], weights_only=True)['state_dict']
    return rows, best, {name: value.tolist() for name, value in state.items()}


@pytest.fixture(scope='module')
def never_killed(project):
    run(project, *tool('train.py', project / 'whole'))
    return result(project / 'whole')


def test_it_finds_the_power_and_exports_it(project, never_killed):
    rows, best, state = never_killed
    assert [row['generation'] for row in rows] == [0, 1, 2, 3] and rows[-1]['arch'] == best['arch'] == '2'
    assert set(state) == {'layer.weight', 'layer.bias'} and state['layer.weight'][0][0] == pytest.approx(2, abs=0.3)
    config = (project / 'whole' / best['config']).read_text()
    assert "type='FixedPower'" in config and 'PowerSearchHook' not in config and 'search' not in config
    # The net is trained on as any other: the command that the search printed, from another folder.
    command = (str(ROOT / 'tools' / 'train.py'), str(project / 'whole' / best['config']))
    options = ('--cfg-options', f'load_from={project / "whole" / best["checkpoint"]}', 'train_cfg.max_epochs=1')
    assert 'Epoch(train) [1]' in run(project, *command, '--work-dir', str(project / 'again'), *options)


@pytest.mark.parametrize(
    ('door', 'kills'),
    [('train.py', ['iter:12', 'row:1', 'checkpoint:2']), ('search.py', ['row:1']), ('mim', [])],
)
def test_killed_and_resumed(project, never_killed, door, kills):
    """In an epoch, between a row and its checkpoint, and after a checkpoint; whoever starts it."""
    folder = project / f'killed_{door}'
    if door == 'mim':
        words = ('-m', 'mim', 'train', 'detnas_mm', str(project / 'learnt_config.py'), '--work-dir', str(folder))
    else:
        words = tool(door, folder, *(['--resume'] if door == 'train.py' else []))
    for die_at in kills:
        run(project, *words, die_at=die_at, code=-9)
    run(project, *words)
    assert result(folder) == never_killed


def test_another_training_in_its_folder_is_refused(project, never_killed):
    folder = shutil.copytree(project / 'whole', project / 'other')
    (folder / 'last_checkpoint').unlink()
    output = run(
        project, *tool('train.py', folder, '--cfg-options', 'optim_wrapper.optimizer.lr=0.1'), code=1
    )  # fmt: skip
    assert 'the row of epoch 0 is' in output and 'Traceback' not in output
    assert len(read_ledger(folder / 'ledger.jsonl')[1]) == 4


def test_a_training_without_epochs_is_refused(project):
    output = run(project, *tool('train.py', project / 'none', '--cfg-options', 'train_cfg.max_epochs=0'), code=1)
    assert 'The training had no epoch' in output and 'Traceback' not in output


def test_what_it_needs_not_is_refused(project):
    strategy = 'search.strategy.type=RandomStrategy'
    output = run(project, *tool('train.py', project / 'strategy', '--cfg-options', strategy), code=1)
    assert 'PowerSearchHook searches by training: remove search.strategy' in output and 'Traceback' not in output
