# A slim RetinaNet: 3 levels, 48 channels, one square anchor at two scales; no BN in neck and head, as in the paper.
# Neck and head are weak on purpose, 1x1 convolutions instead of an FPN and a single 3x3 convolution as head, so that
# results depend more on the backbone (docs/digits.md).
model = dict(
    type='RetinaNet',
    data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32),
    backbone=dict(out_indices=(1, 2, 3)),
    neck=dict(
        type='ChannelMapper',
        in_channels=[64, 128, 256],
        out_channels=48,
        kernel_size=1,
        norm_cfg=None,
        act_cfg=None,
        num_outs=3,
    ),
    bbox_head=dict(
        type='RetinaHead',
        num_classes=10,
        in_channels=48,
        feat_channels=48,
        stacked_convs=0,
        anchor_generator=dict(
            type='AnchorGenerator',
            octave_base_scale=2,
            scales_per_octave=2,
            ratios=[1.0],
            strides=[8, 16, 32],
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[1.0, 1.0, 1.0, 1.0]),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25),
        loss_bbox=dict(type='L1Loss'),
    ),
    train_cfg=dict(
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1),
        sampler=dict(type='PseudoSampler'),
        allowed_border=-1,
        pos_weight=-1,
    ),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100
    ),
)
