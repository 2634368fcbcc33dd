# DetNAS-scratch in the large space. Search it with detnas-large_search_retinanet_coco.py with this supernet's
# checkpoint.
_base_ = './detnas-small_supernet-scratch_retinanet_coco.py'
model = dict(backbone=dict(space='large'), neck=dict(in_channels=[96, 240, 480, 960]))
