"""MAE-DET: the backbone of largest entropy within a budget, with a proven bound; then it is trained from scratch.

python examples/mae_det.py [FOLDER]    # half a minute on a CPU; a few steps on few images, so the net is worth nothing
"""

import json
import os
import sys
from pathlib import Path

from mmdet.apis import DetInferencer
from mmengine.config import Config

from detnas_mm.datasets.digits import make_digits
from detnas_mm.engine.launch import run, search
from detnas_mm.systems.mae_det import EntropyScore

CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / 'digits'
folder = Path(sys.argv[1] if len(sys.argv) > 1 else 'work_dirs/examples/mae_det').resolve()
os.environ['DETNAS_DIGITS'] = str(folder / 'digits')  # the configs read it
make_digits(folder / 'digits', num_train=200, num_search_val=20, num_test=20, num_cls_train=20, progress=False)

cfg = Config.fromfile(CONFIGS / 'maedet-digits_search_retinanet.py')  # its model is the ResNet that sets the budget
print(f'the small ResNet has an entropy of {EntropyScore().score(cfg.model.backbone.arch):.1f}')
cfg.work_dir = str(folder / 'search')
search(cfg)
best = json.loads((folder / 'search/best.json').read_text())[0]
proof = json.loads((folder / 'search/certificate.json').read_text())
print(f'found {best["arch"]}; certificate: {proof}')

net = Config.fromfile(folder / 'search' / best['config'])  # an ordinary config, without weights
net.merge_from_dict({'work_dir': str(folder / 'trained'), 'train_cfg.max_iters': 40})
run(net)
detector = DetInferencer(str(folder / 'search' / best['config']), str(folder / 'trained/iter_40.pth'), 'cpu')
found = detector(str(folder / 'digits/test/000000.png'), out_dir=str(folder / 'seen'))['predictions'][0]
print(f'{best["arch"]}: {len(found["labels"])} boxes, drawn in {folder}/seen/vis')
