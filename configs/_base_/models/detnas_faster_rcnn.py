# mmdet's Faster R-CNN with FPN, with the paper's 4conv1fc head and SyncBN in neck and head. Leaf configs set the
# backbone; channels are those of the small space.
_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'
norm_cfg = dict(type='SyncBN')
model = dict(
    # BGR, 0–255, not normalised.
    data_preprocessor=dict(_delete_=True, type='DetDataPreprocessor', pad_size_divisor=32),
    backbone=dict(_delete_=True, norm_cfg=norm_cfg),
    neck=dict(in_channels=[64, 160, 320, 640], norm_cfg=norm_cfg),
    roi_head=dict(bbox_head=dict(type='Shared4Conv1FCBBoxHead', norm_cfg=norm_cfg)),
)
