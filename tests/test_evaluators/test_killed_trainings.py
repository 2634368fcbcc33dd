"""A search on Digits whose trainings and driver are killed, by the real command in processes of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import mmdet
import pytest
import torch

from tests.test_evaluators import training
from tests.test_evaluators.training import rows

ROOT = Path(__file__).parents[2]
TIMEOUT = 600  # seconds; a few on a quiet machine


def written(folder, workers):
    """The config file of a search over two detectors, trained long enough that a kill meets them."""
    cfg = training.config(folder, dict(workers=dict(type='LocalWorkers', count=workers)), population=2)
    cfg.train_cfg.max_iters, cfg.default_hooks.checkpoint.interval = 24, 4
    cfg.train_dataloader.dataset.pipeline.insert(3, dict(type='RandomFlip', prob=0.5))
    cfg.custom_imports = dict(imports=['tests.test_toys.detectors'])
    cfg.pop('experiment_name')
    cfg.log_level = 'INFO'
    folder.mkdir()
    file = folder.with_suffix('.py')
    file.write_text(cfg.pretty_text)
    return file


def search(file):
    command = [sys.executable, str(ROOT / 'tools' / 'search.py'), str(file), '--work-dir', str(file.with_suffix(''))]
    env = os.environ | dict(PYTHONPATH=str(ROOT), TQDM_DISABLE='1')
    return subprocess.Popen(
        command, cwd=file.parent, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finished(file):
    process = search(file)
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, output
    return output


def wait_for(what):
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError('it did not come to that')


def half_trained(folder):
    """A candidate's folder with a checkpoint, and no result."""
    return next((file.parents[1] for file in folder.glob('candidates/*/training/iter_*.pth')), None)


def processes(folder):
    """Those that have a folder in their command line."""
    found = []
    for file in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            words = file.read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words and b'candidate' in words:
            found.append(int(file.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc').is_dir(), reason='looks for processes in /proc')
def test_killed_trainings_and_searches_end_with_the_rows_of_one_that_was_not(tmp_path, digits_folder, monkeypatch):
    monkeypatch.setenv('DETNAS_DIGITS', str(digits_folder))
    whole, killed = written(tmp_path / 'whole', 1), written(tmp_path / 'killed', 2)
    finished(whole)

    folder = killed.with_suffix('')
    driver = search(killed)
    first = wait_for(lambda: half_trained(folder))
    os.kill(int(re.search(r'process (\d+)', (first / 'lock').read_text())[1]), signal.SIGKILL)  # the training
    wait_for(lambda: 'resumed epoch' in (first / 'log.txt').read_text())
    driver.kill()
    driver.communicate()
    wait_for(lambda: not processes(folder))
    finished(killed)

    expected = rows(tmp_path / 'whole')
    assert rows(folder) == expected and [row['status'] for row in expected] == ['ok', 'ok']
    assert expected[0]['metrics'] != expected[1]['metrics']
    for row in expected:
        stem = next((folder / 'best').glob(f'rank*_{row["id"]}.pth'))
        there, here = (
            torch.load(file, weights_only=True) for file in (stem, tmp_path / 'whole' / 'best' / stem.name)
        )  # fmt: skip
        assert there['meta'] == here['meta'] and there['state_dict'].keys() == here['state_dict'].keys()
        assert all(torch.equal(value, here['state_dict'][name]) for name, value in there['state_dict'].items())

    best = next((folder / 'best').glob('rank1_*.pth'))
    script = Path(mmdet.__file__).parent / '.mim' / 'tools' / 'test.py'
    config = best.with_name(f'{best.stem}_search_val.py')
    command = [sys.executable, str(script), str(config), str(best), '--work-dir', str(tmp_path / 'test')]
    env = os.environ | dict(PYTHONPATH=str(ROOT))
    output = subprocess.run(command, env=env, capture_output=True, text=True, timeout=TIMEOUT, cwd=tmp_path)
    assert output.returncode == 0, output.stderr[-2000:]
    printed = dict(re.findall(r'(coco/\w+): +(-?[\d.]+)', output.stdout + output.stderr))
    (row,) = [row for row in expected if row['id'] in best.name]
    for name, value in row['metrics'].items():
        assert abs(value - float(printed[name])) <= 5.1e-4, name
    assert row['metrics']['coco/bbox_mAP_50'] > 0
