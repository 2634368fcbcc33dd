"""Training, resuming, testing, searching and mim, as a user types them, with whichever family is installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from detnas_mm import compat
from tests import digits

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs' / 'digits'
SUPERNET = CONFIGS / 'detnas-digits_supernet_retinanet.py'
NET = CONFIGS / 'detnas-digits_net_retinanet.py'
SEARCH = CONFIGS / 'detnas-digits_search_retinanet.py'
pytestmark = [pytest.mark.smoke, pytest.mark.slow]


def run(*command, cwd=ROOT):
    """Run a command that must succeed; return all that it printed."""
    environment = os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f'{command} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}'
    return done.stdout + done.stderr


def tool(name, *arguments):
    return run(sys.executable, ROOT / 'tools' / name, *arguments)


def train(config, work_dir, steps, *more):
    options = ['--cfg-options', f'train_cfg.max_iters={steps}', 'default_hooks.checkpoint.interval=2']
    output = tool('train.py', config, '--work-dir', work_dir, *more, *options)
    assert (work_dir / f'iter_{steps}.pth').is_file()
    return output


@pytest.fixture(scope='module')
def supernet(digits_folder, tmp_path_factory):
    """Checkpoint of a supernet trained for two steps, and for two more in another process."""
    folder = tmp_path_factory.mktemp('supernet')
    train(SUPERNET, folder, 2)
    output = train(SUPERNET, folder, 4, '--resume')
    assert 'iter: 2' in output, 'the second training did not resume from the first'
    return folder / 'iter_4.pth'


def test_test(digits_folder, tmp_path):
    train(NET, tmp_path, 2)
    pictures = tmp_path / 'my pictures'
    output = tool('test.py', NET, tmp_path / 'iter_2.pth', '--work-dir', tmp_path / 'test', '--show-dir', pictures)
    assert len(list(pictures.glob('*.png'))) == digits.COUNTS['num_test']
    assert 'coco/bbox_mAP' in output or 'bbox_mAP' in output or 'empty' in output


def test_search_and_the_net_that_it_exports(supernet, tmp_path):
    small = ['strategy.population=2', 'strategy.parents=1', 'strategy.mutation=1', 'strategy.crossover=1']
    small += ['budget.generations=1', 'evaluator.calibration.num_images=20', 'export.top_k=1']
    options = ['--cfg-options', 'model.test_cfg.score_thr=0.001', *(f'search.{option}' for option in small)]
    tool('search.py', SEARCH, supernet, '--work-dir', tmp_path, *options)
    assert len((tmp_path / 'ledger.jsonl').read_text().splitlines()) == 3
    best = json.loads((tmp_path / 'best.json').read_text())[0]
    # In the upstream family another metric takes FasterCocoMetric's place, in what is exported, too.
    for config in ('config', 'search_val'):
        words = tmp_path / best[config], tmp_path / best['checkpoint'], '--work-dir', tmp_path / config
        output = tool('test.py', *words)
    fitness = best['metrics']['coco/bbox_mAP']
    assert f'coco/bbox_mAP: {fitness:.3f}' in output, 'to the digits that mmdet prints'


def test_mim_train_with_mmdets_own_script(digits_folder, tmp_path):
    package = 'mmdetection' if compat.find_family() == 'onedl' else 'mmdet'  # as each family's mim knows it
    options = ['--cfg-options', 'train_cfg.max_iters=2', 'default_hooks.checkpoint.interval=2']
    mim = Path(sys.executable).with_name('mim')
    run(mim, 'train', package, NET, '--launcher', 'none', '--work-dir', tmp_path / 'out', *options, cwd=tmp_path)
    assert (tmp_path / 'out' / 'iter_2.pth').is_file()
