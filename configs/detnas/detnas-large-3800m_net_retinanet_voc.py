# Step 5 of DetNAS for a net of the large space made 1.8 times as wide. Set model.backbone.arch; by default all blocks
# are 3x3.
_base_ = './detnas-large_net_retinanet_voc.py'
model = dict(
    backbone=dict(
        space='large-3.8g',
        init_cfg=dict(checkpoint='work_dirs/detnas-large-3800m_net_cls_imagenet/iter_300000.pth'),
    ),
    neck=dict(in_channels=[172, 432, 864, 1728]),
)
