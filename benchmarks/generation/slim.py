# RetinaNet on P3-P7 with slim heads: 64 channels, 2 convolutions.
_base_ = ['../../configs/_base_/models/detnas_retinanet.py', './data.py']
model = dict(
    backbone=dict(type='detnas_mm.DetNASSupernet', space='small', aligned_init=True),
    neck=dict(out_channels=64),
    bbox_head=dict(num_classes=10, in_channels=64, feat_channels=64, stacked_convs=2),
)
