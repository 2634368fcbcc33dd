# MAE-DET-M in RetinaNet, from scratch.
_base_ = [
    '../_base_/models/maedet_retinanet.py',
    '../_base_/datasets/coco_maedet.py',
    '../_base_/schedules/maedet_coco_73e.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(backbone=dict(arch='maedet-m'), neck=dict(in_channels=[120, 512, 1632, 2048]))
