"""SM-NAS, stage 1: whole detectors, measured on this machine and trained; the front of mAP against milliseconds.

python examples/sm_nas.py [FOLDER]     # a minute on a CPU; a few steps on few images, so the nets are worth nothing
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from mmdet.apis import DetInferencer
from mmengine.config import Config

from detnas_mm.datasets.digits import make_digits
from detnas_mm.engine.launch import search
from detnas_mm.registry import SPACES, build_from

CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / 'digits'

if __name__ == '__main__':  # candidates train in processes of their own
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else 'work_dirs/examples/sm_nas').resolve()
    os.environ['DETNAS_DIGITS'] = str(folder / 'digits')  # the configs read it
    make_digits(folder / 'digits', num_train=60, num_search_val=20, num_test=20, num_cls_train=20, progress=False)

    cfg = Config.fromfile(CONFIGS / 'smnas-digits_structural.py')
    cfg.search.space.factors.size = {'64x64': dict(scale=(64, 64))}  # the table of values is data
    space = build_from(SPACES, cfg.search.space)
    print(f'{space.size:,} detectors, such as {space.describe(space.sample(np.random.default_rng(0)))}')
    few = {'population': 2, 'parents': 1, 'mutation': 2, 'crossover': 0}
    cfg.merge_from_dict({'work_dir': str(folder / 'search'), 'search.strategy': few, 'search.budget.generations': 1})
    cfg.merge_from_dict({'train_cfg.max_iters': 5, 'train_cfg.val_interval': 5, 'search.evaluator.trials': 0})
    cfg.search.costs.latency |= dict(file=str(folder / 'latency.json'), pace=dict(rounds=2))
    search(cfg)

    for best in json.loads((folder / 'search/best.json').read_text()):
        config, weights = (str(folder / 'search' / best[key]) for key in ('config', 'checkpoint'))
        detector = DetInferencer(config, weights, 'cpu')
        found = detector(str(folder / 'digits/test/000000.png'), out_dir=str(folder / 'seen'))['predictions'][0]
        print(f'{best["arch"]}: {best["costs"]["latency"]:.1f} ms, {len(found["labels"])} boxes')
