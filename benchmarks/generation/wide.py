# As slim.py, with RetinaNet's own heads: 256 channels, 4 convolutions.
_base_ = './slim.py'
model = dict(
    neck=dict(out_channels=256),
    bbox_head=dict(in_channels=256, feat_channels=256, stacked_convs=4),
)
train_cfg = dict(max_iters=200)
