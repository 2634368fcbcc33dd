"""The backbones in mmdet's and mmpretrain's own models, by scoped type, from configs that import nothing of ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BACKBONE = "dict(_delete_=True, type='detnas_mm.DetNASNet', arch='0|1|23|3', space=dict(stem=8, channels=(16, 32, 64, 128), blocks=(1, 1, 2, 1)))"  # noqa: E501

CONFIGS = {
    'retinanet': f"""
_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'
default_scope = 'mmdet'
model = dict(
    backbone={BACKBONE},
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=32),
    bbox_head=dict(num_classes=3, in_channels=32, feat_channels=32, stacked_convs=1))
""",
    'faster_rcnn': f"""
_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'
default_scope = 'mmdet'
model = dict(
    backbone={BACKBONE},
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=32),
    rpn_head=dict(in_channels=32, feat_channels=32),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=32),
        bbox_head=dict(num_classes=3, in_channels=32, fc_out_channels=32)))
""",
    'classifier': f"""
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone={BACKBONE.replace('_delete_=True, ', '')},
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=1024, loss=dict(type='CrossEntropyLoss')),
    data_preprocessor=dict(num_classes=3))
model['backbone'].update(with_last_conv=True, out_indices=())
""",
}

# Builds the model of a config as any OpenMMLab program does, runs a training step and a prediction.
PROGRAM = """
import json, sys
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData

cfg = Config.fromfile(sys.argv[1])
assert not any(name.startswith('detnas_mm') for name in sys.modules), 'imported before it was needed'
init_default_scope(cfg.default_scope)
torch.manual_seed(0)
model = MODELS.build(cfg.model)
model.init_weights()
images = [torch.randint(256, (3, 64, 64), dtype=torch.uint8) for _ in range(2)]
if cfg.default_scope == 'mmdet':
    from mmdet.structures import DetDataSample
    samples = []
    for _ in images:
        sample = DetDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64), scale_factor=(1.0, 1.0)))
        boxes = torch.tensor([[4.0, 4, 40, 44], [20, 10, 60, 30]])
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0, 2]))
        sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=torch.tensor([], dtype=torch.long))
        samples.append(sample)
else:
    from mmpretrain.structures import DataSample
    samples = [DataSample(metainfo=dict(num_classes=3)).set_gt_label(i) for i in range(2)]
data = model.data_preprocessor(dict(inputs=images, data_samples=samples), training=True)
losses, _ = model.parse_losses(model(**data, mode='loss'))
losses.backward()
lacking = [n for n, p in model.backbone.named_parameters() if p.grad is None]
with torch.no_grad():
    predictions = model.eval()(**data, mode='predict')
print('RESULT', json.dumps(dict(
    backbone=type(model.backbone).__module__, loss=losses.item(), lacking=lacking, predictions=len(predictions))))
"""


@pytest.mark.slow
@pytest.mark.parametrize('name', CONFIGS)
def test_it_trains_and_predicts(name, tmp_path):
    (tmp_path / 'config.py').write_text(CONFIGS[name])
    (tmp_path / 'program.py').write_text(PROGRAM)
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])}
    command = [sys.executable, str(tmp_path / 'program.py'), str(tmp_path / 'config.py')]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith('RESULT'))
    result = json.loads(line.partition(' ')[2])
    assert result['backbone'] == 'detnas_mm.systems.detnas.model'
    assert result['predictions'] == 2 and result['lacking'] == [] and 0 < result['loss'] < 100
