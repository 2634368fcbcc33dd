# The slim Faster R-CNN of Digits on mmdet's ResNet-50, an eighth as wide; leaf configs set the dilations.
_base_ = './digits_faster_rcnn.py'
model = dict(
    backbone=dict(
        plain='mmdet.ResNet',
        depth=50,
        base_channels=8,
        num_stages=4,
        out_indices=(1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type='SyncBN'),
        norm_eval=False,
        style='pytorch',
    ),
)
