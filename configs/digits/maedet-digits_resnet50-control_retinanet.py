# The control for MAE-DET-S, -M and -L on Digits: mmdet's ResNet-50, also from scratch.
_base_ = './maedet-digits_resnet_retinanet.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type='BN'),
        norm_eval=False,
        style='pytorch',
    ),
    neck=dict(in_channels=[512, 1024, 2048]),
)
