# mmdet's Cascade Mask R-CNN with FPN on a torchvision ResNet-50 with trained SyncBN, as IC-Conv's other detectors here;
# leaf configs set the dilations of convolutions.
_base_ = 'mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py'
model = dict(
    backbone=dict(plain='mmdet.ResNet', norm_cfg=dict(type='SyncBN', requires_grad=True), norm_eval=False),
)
