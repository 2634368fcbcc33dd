"""DetNAS: a supernet in a detector, evolution over its paths, the best path as an ordinary detector.

python examples/detnas.py [FOLDER]     # about a minute on a CPU; a few steps on few images, so the net is worth nothing
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from mmdet.apis import DetInferencer
from mmengine.config import Config

from detnas_mm.datasets.digits import make_digits
from detnas_mm.engine.launch import run, search
from detnas_mm.systems.detnas import DetNASSpace

CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / 'digits'
folder = Path(sys.argv[1] if len(sys.argv) > 1 else 'work_dirs/examples/detnas').resolve()
os.environ['DETNAS_DIGITS'] = str(folder / 'digits')  # the configs read it
make_digits(folder / 'digits', num_train=200, num_search_val=40, num_test=20, num_cls_train=20, progress=False)

space = DetNASSpace(dict(stem=16, channels=(32, 64, 128, 256), blocks=(1, 1, 2, 1)))  # that of the configs
print(f'{space.size:,} backbones, such as {space.describe(space.sample(np.random.default_rng(0)))}')

supernet = Config.fromfile(CONFIGS / 'detnas-digits_supernet_retinanet.py')
supernet.merge_from_dict({'work_dir': str(folder / 'supernet'), 'train_cfg.max_iters': 60})
run(supernet)

cfg = Config.fromfile(CONFIGS / 'detnas-digits_search_retinanet.py')
few = {'population': 4, 'mutation': 2, 'crossover': 2}
cfg.merge_from_dict({'work_dir': str(folder / 'search'), 'search.budget.generations': 2, 'search.strategy': few})
cfg.merge_from_dict({'search.evaluator.calibration.num_images': 40, 'model.test_cfg.score_thr': 0.0})
search(cfg, str(folder / 'supernet/iter_60.pth'))

best = json.loads((folder / 'search/best.json').read_text())[0]
detector = DetInferencer(str(folder / 'search' / best['config']), str(folder / 'search' / best['checkpoint']), 'cpu')
found = detector(str(folder / 'digits/test/000000.png'), out_dir=str(folder / 'seen'))['predictions'][0]
print(f'{best["arch"]}: {len(found["labels"])} boxes, drawn in {folder}/seen/vis')
