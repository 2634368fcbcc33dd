# Step 1 of DetNAS in the large space.
_base_ = './detnas-small_supernet_cls_imagenet.py'
model = dict(backbone=dict(space='large'))
