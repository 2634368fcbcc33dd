"""Runs the commands of configs/digits/README.md literally, at a smaller size."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'configs' / 'digits' / 'README.md').read_text()
STEPS = [
    line
    for block in re.findall(r'^```bash\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)
    for line in block.replace('\\\n', '').splitlines()
]
SMALL = {
    'make_digits.py': '--num-train 40 --num-search-val 20 --num-test 20 --num-cls-train 80 --num-cls-search-val 20 '
    '--num-cls-test 20',
    'train.py': 'train_cfg.max_iters=2',
    'search.py configs/digits/maedet-digits_search_retinanet.py': 'search.strategy.max_iterations=2',
    'search.py configs/digits/nats-digits_search_retinanet.py': 'train_cfg.max_epochs=2 '
    'train_dataloader.dataset.indices=20 train_cfg.alpha_dataloader.dataset.indices=-20 '
    'custom_hooks.1.calibration.num_images=20',
    'search.py configs/digits/edo-digits_search_cls.py': 'search.evaluator.num_images=20',
    'search.py': 'search.strategy.population=2 search.strategy.mutation=1 search.strategy.crossover=1 '
    'search.budget.generations=1 search.evaluator.calibration.num_images=20 model.test_cfg.score_thr=0',
    'test.py': 'model.test_cfg.score_thr=0',
}


def test_each_step_begins_with_what_an_earlier_one_leaves():
    made = set()
    for step in STEPS:
        assert set(re.findall(r'work_dirs/\S+\.pth', step)) <= made, step
        config = re.search(r'tools/train\.py (\S+)', step)
        if config:
            steps = Config.fromfile(ROOT / config[1]).train_cfg.max_iters
            made.add(f'work_dirs/{Path(config[1]).stem}/iter_{steps}.pth')
    assert len(made) == 7


@pytest.mark.slow
def test_the_steps_run(tmp_path):
    for name in ('configs', 'tools'):
        (tmp_path / name).symlink_to(ROOT / name)
    script = ['set -e']
    for step in STEPS:
        if 'smnas' in step:  # the same commands, run by benchmarks/smnas_digits.py: tests/test_benchmarks
            continue
        small = next((options for program, options in SMALL.items() if program in step), None)
        if small:
            needs_flag = 'make_digits.py' not in step and '--cfg-options' not in step
            step += f' {"--cfg-options " if needs_flag else ""}{small}'
        script.append(re.sub(r'iter_\d+', 'iter_2', step))
    environment = {key: value for key, value in os.environ.items() if key != 'DETNAS_DIGITS'}
    environment |= dict(PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}', OMP_NUM_THREADS='1')
    environment['PYTHONWARNINGS'] = 'ignore'
    done = subprocess.run(
        ['bash', '-c', '\n'.join(script)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    best = json.loads((tmp_path / 'work_dirs/detnas-digits_search_retinanet/best.json').read_text())
    assert best[0]['arch']
    assert 'coco/bbox_mAP' in done.stdout + done.stderr
