# Step 5 of DetNAS in the large space. Set model.backbone.arch; by default all blocks are 3x3 (1.04G MACs).
_base_ = './detnas-small_net_fpn_coco.py'
model = dict(
    backbone=dict(
        arch='00000000|00000000|0000000000000000|00000000',
        space='large',
        init_cfg=dict(checkpoint='work_dirs/detnas-large_net_cls_imagenet/iter_300000.pth'),
    ),
    neck=dict(in_channels=[96, 240, 480, 960]),
)
