# The control: ResNet-50 in GFL with the same recipe, also from scratch.
_base_ = [
    '../_base_/models/maedet_gfl.py',
    '../_base_/datasets/coco_maedet.py',
    '../_base_/schedules/maedet_coco_73e.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type='SyncBN'),
        norm_eval=False,
        style='pytorch',
    ),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)
