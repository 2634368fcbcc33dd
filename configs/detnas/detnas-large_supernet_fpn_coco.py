# Step 2 of DetNAS in the large space.
_base_ = './detnas-small_supernet_fpn_coco.py'
model = dict(
    backbone=dict(
        space='large', init_cfg=dict(checkpoint='work_dirs/detnas-large_supernet_cls_imagenet/iter_300000.pth')
    ),
    neck=dict(in_channels=[96, 240, 480, 960]),
)
