# The slim Faster R-CNN of the Digits configs: with BN in FPN and head, which is recalibrated, too.
_base_ = ['../../configs/_base_/models/digits_faster_rcnn.py', './data.py']
model = dict(
    backbone=dict(type='detnas_mm.DetNASSupernet', space='small', aligned_init=True),
    neck=dict(in_channels=[160, 320, 640]),
)
