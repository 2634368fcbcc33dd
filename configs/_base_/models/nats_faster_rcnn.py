# mmdet's Faster R-CNN with FPN on a torchvision ResNet-50 with trained SyncBN, as the paper's baselines and nets; leaf
# configs set the dilations of convolutions.
_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'
model = dict(
    backbone=dict(plain='mmdet.ResNet', norm_cfg=dict(type='SyncBN', requires_grad=True), norm_eval=False),
)
