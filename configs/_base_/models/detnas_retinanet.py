# mmdet's RetinaNet on P3–P7, without BN in neck and head. Leaf configs set the backbone; channels are those of the
# small space.
_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'
model = dict(
    # BGR, 0–255, not normalised.
    data_preprocessor=dict(_delete_=True, type='DetDataPreprocessor', pad_size_divisor=32),
    backbone=dict(_delete_=True, norm_cfg=dict(type='SyncBN')),
    # P6 from P5, P7 from P6 after a ReLU, as in the authors' code.
    neck=dict(in_channels=[64, 160, 320, 640], add_extra_convs='on_output', relu_before_extra_convs=True),
)
