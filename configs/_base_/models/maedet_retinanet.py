# mmdet's RetinaNet with MAE-DET-S from random weights, and SyncBN in backbone and neck; leaf configs set other
# backbones.
_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'
norm_cfg = dict(type='SyncBN')
model = dict(
    backbone=dict(
        _delete_=True, type='detnas_mm.MAEDetNet', arch='maedet-s', out_indices=(0, 1, 2, 3), norm_cfg=norm_cfg
    ),
    neck=dict(in_channels=[48, 272, 1024, 2048], norm_cfg=norm_cfg),
)
