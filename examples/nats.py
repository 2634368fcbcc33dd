"""NATS: dilations for groups of channels, learned by gradient while the detector trains; its weights are kept.

python examples/nats.py [FOLDER]       # a minute on a CPU; a few steps on few images, so the net is worth nothing
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
from detnas_mm.systems.nats import DilationSpace

CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / 'digits'
folder = Path(sys.argv[1] if len(sys.argv) > 1 else 'work_dirs/examples/nats').resolve()
os.environ['DETNAS_DIGITS'] = str(folder / 'digits')  # the configs read it
make_digits(folder / 'digits', num_train=160, num_search_val=20, num_test=20, num_cls_train=20, progress=False)

space = DilationSpace(backbone=dict(type='mmdet.ResNet', depth=50, base_channels=8), groups=8)  # that of the config
example = space.describe(space.sample(np.random.default_rng(0)))
print(f'{len(space.choices)} groups of channels, such as {example.split("|")[0]} in the first convolution')

cfg = Config.fromfile(CONFIGS / 'nats-digits_search_retinanet.py')
cfg.merge_from_dict({'work_dir': str(folder / 'search'), 'train_cfg.max_epochs': 2, 'model.test_cfg.score_thr': 0.0})
cfg.merge_from_dict({'train_dataloader.dataset.indices': 80, 'train_cfg.alpha_dataloader.dataset.indices': -80})
cfg.merge_from_dict({'custom_hooks.1.calibration.num_images': 40})
search(cfg)  # trains weights on one half of the images and the choice of dilations on the other

best = json.loads((folder / 'search/best.json').read_text())[0]
detector = DetInferencer(str(folder / 'search' / best['config']), str(folder / 'search' / best['checkpoint']), 'cpu')
found = detector(str(folder / 'digits/test/000000.png'), out_dir=str(folder / 'seen'))['predictions'][0]
print(f'{len(found["labels"])} boxes, drawn in {folder}/seen/vis; shares of dilations: {folder}/search/genotypes.png')
