# Step 4 of DetNAS for a net of the large space made 1.8 times as wide. Set model.backbone.arch; by default all blocks
# are 3x3.
_base_ = './detnas-large_net_cls_imagenet.py'
model = dict(backbone=dict(space='large-3.8g'), head=dict(in_channels=1728))
