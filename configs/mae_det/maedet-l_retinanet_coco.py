# MAE-DET-L in RetinaNet, from scratch.
_base_ = [
    '../_base_/models/maedet_retinanet.py',
    '../_base_/datasets/coco_maedet.py',
    '../_base_/schedules/maedet_coco_73e.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(backbone=dict(arch='maedet-l'), neck=dict(in_channels=[144, 608, 1912, 2400]))
